"""The clauses of a select that follow its select list, and the columns on which they make the rows depend.

These clauses may refer to the result: `order by 2` by position, and `order by total` by name. Where engines differ in
what a name or position means, or the select list has columns that cannot be counted, the clause is unknown.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqlglot import exp

from .meanings import aggregates, is_windowed, means
from .model import CONSTANT, INDIRECT, UNKNOWN, ColumnLineage, combined
from .relation import Projection, Relation, Scope
from .set_operations import all_columns
from .values import QueryReader, value_of

# The clauses of a select, and how the columns in them affect its rows.
CLAUSES = {
    "where": "FILTER",
    "having": "FILTER",
    "qualify": "FILTER",
    "group": "GROUP_BY",
    "order": "SORT",
    "sort": "SORT",
    "cluster": "SORT",
    "limit": "FILTER",
    "offset": "FILTER",
}
GROUPS = (exp.Cube, exp.Group, exp.GroupingSets, exp.Rollup, exp.Tuple)
# Clauses that sort by columns of the result, and clauses in which a whole number is the position of a column.
SORTS = (exp.Order, exp.Sort, exp.Cluster, exp.Distinct)
POSITIONAL = (*SORTS, exp.Group)


def conditions(select: exp.Select, relation: Relation, scope: Scope, reader: QueryReader) -> Iterator[ColumnLineage]:
    """Yield the lineage of what determines the rows of `select`; `relation` is the result of its select list."""
    for name, subtype in CLAUSES.items():
        if clause := select.args.get(name):
            yield from (value.through(INDIRECT, subtype) for value in _clause(clause, scope, reader))
    distinct = select.args.get("distinct")
    if distinct is None:
        return
    values = [all_columns(relation)] if distinct.args.get("on") is None else _clause(distinct, scope, reader)
    yield from (value.through(INDIRECT, "GROUP_BY") for value in values)


def items(clause: exp.Expr) -> Iterator[exp.Expr]:
    """Yield the items of a clause, including those inside `rollup (…)` and `distinct on (…)`."""
    for item in clause.iter_expressions():
        inner = item.unnest()
        if isinstance(clause, (*GROUPS, exp.Distinct)) and isinstance(inner, GROUPS):
            yield from items(inner)
        else:
            yield inner


def may_group(select: exp.Select, scope: Scope) -> bool:
    """Return whether `select` may turn several rows into one, even if no aggregate is known in it.

    Without GROUP BY, it does not if a column of its own sources stands outside all functions that may be aggregates.
    """
    if select.args.get("group") or select.args.get("having"):
        return True

    def ends(node: exp.Expr) -> bool:
        is_part_of_call = isinstance(node, exp.Filter | exp.WithinGroup)
        is_call = is_part_of_call or aggregates(node, scope.names.dialect) is not False
        return (is_call and not is_windowed(node)) or isinstance(node, exp.Query | exp.Lambda | exp.Dot)

    return not any(
        _is_own(node, scope) for item in select.expressions for node in item.walk(prune=ends) if not ends(node)
    )


def _is_own(node: exp.Expr, scope: Scope) -> bool:
    """Return whether an expression certainly is a column of a scope's own sources, or all of them."""
    if isinstance(node, exp.Star):
        return not isinstance(node.parent, exp.Func)
    if not isinstance(node, exp.Column):
        return False
    keys = [scope.names.table_key(part) for part in node.parts if isinstance(part, exp.Identifier)]
    return bool(keys and (scope.own(keys[0]) or (len(keys) > 1 and scope.called(tuple(keys[:-1]), here=True))))


def position_of(expression: exp.Expr) -> int | None:
    """Return the position that an item of a clause states: `2`, or `(2)`, which some engines read as a constant."""
    literal = expression.unnest()
    return int(literal.this) if isinstance(literal, exp.Literal) and literal.is_int else None


def _clause(clause: exp.Expr, scope: Scope, reader: QueryReader) -> Iterator[ColumnLineage]:
    """Yield the lineage of a clause's items; a position, or the name of a result column, stands for that column."""
    if _is_all(clause):
        is_group = isinstance(clause, exp.Group)
        yield from _all_groups(scope) if is_group else map(_whole, scope.projections)
        return
    for item in items(clause):
        inner = item.this if isinstance(item, exp.Ordered) else item
        position = position_of(inner) if isinstance(clause, POSITIONAL) else None
        if position is not None:
            is_certain = not isinstance(inner, exp.Paren) or scope.names.brackets_keep_positions
            yield _at(position, scope) if is_certain else UNKNOWN
        elif isinstance(clause, POSITIONAL) and inner.is_star:
            yield UNKNOWN
        elif isinstance(clause, SORTS) and isinstance(inner, exp.Column) and len(inner.parts) == 1:
            yield _sorted_by(inner, scope, reader)
        else:
            yield UNKNOWN if _may_mean_result(inner, clause, scope) else value_of(inner, scope, reader)


def _at(position: int, scope: Scope) -> ColumnLineage:
    """Return the column at a position of the result, if all columns before it are known."""
    for projection in scope.projections:
        if not projection.complete:
            break
        if position <= len(projection.columns):
            return projection.columns[position - 1].lineage if position else UNKNOWN
        position -= len(projection.columns)
    return UNKNOWN


def _sorted_by(column: exp.Column, scope: Scope, reader: QueryReader) -> ColumnLineage:
    """Return the lineage of a bare name in a clause that sorts.

    A name that the query itself gives to a result column takes precedence over columns of the sources. For a name that
    a result column merely inherits, engines differ.
    """
    key = scope.names.table_key(column.this)
    named = [(item, own) for item in scope.projections for own in item.columns if scope.names.key(own.name) == key]
    if named and all(key in projection.given for projection, _ in named):
        first = named[0][1].lineage
        return first if all(_columns(own.lineage) == _columns(first) for _, own in named) else UNKNOWN
    value = value_of(column, scope, reader)
    agree = all(_columns(own.lineage) == _columns(value) for _, own in named)
    return value if agree and (named or not _may_be_named(key, value, scope)) else UNKNOWN


def _may_be_named(key: str, value: ColumnLineage, scope: Scope) -> bool:
    """Return whether a result column whose name is not known may have this key and other origins than `value`."""
    return any(
        not column.name and scope.names.may_generate(key, projection.expression)
        for projection in scope.projections
        for column in projection.columns
        if _columns(column.lineage) != _columns(value)
    ) or any(projection.renames for projection in scope.projections)


def _may_mean_result(expression: exp.Expr, clause: exp.Expr, scope: Scope) -> bool:
    """Return whether a name in `expression` may mean a source's column or a result column with other origins."""
    names = scope.names
    for column in expression.find_all(exp.Column):
        if len(column.parts) > 1:
            continue
        if isinstance(clause, SORTS) and any(projection.renames for projection in scope.projections):
            return True
        key = names.table_key(column.this)
        own = scope.own(key)
        if own is None:
            continue
        for projection in scope.projections:
            # In WHERE, no engine lets `* replace (…)` take precedence.
            if isinstance(clause, exp.Where) and not isinstance(projection.expression, exp.Alias):
                continue
            # Only clauses that sort may prefer a name that a result column merely inherits.
            if not isinstance(clause, SORTS) and key not in projection.given:
                continue
            named = [item for item in projection.columns if names.key(item.name) == key]
            if any(_columns(item.lineage) != _columns(own.lineage) for item in named):
                return True
    return False


def _is_all(clause: exp.Expr) -> bool:
    expressions = clause.expressions
    if not isinstance(clause, exp.Group | exp.Order):
        return False
    return bool(clause.args.get("all")) or (
        len(expressions) == 1 and isinstance(expressions[0], exp.Ordered) and isinstance(expressions[0].this, exp.Var)
    )


def _all_groups(scope: Scope) -> Iterator[ColumnLineage]:
    """Yield the keys of `group by all`: all columns of the result that are no aggregates."""
    keys = [_whole(item) for item in scope.projections if _aggregates(item.expression, scope) is False]
    certain = _columns(combined(keys)) or set()
    yield from keys
    for item in scope.projections:
        if _aggregates(item.expression, scope) is None:
            possible = _columns(_whole(item))
            # Whether these columns are keys once more makes no difference.
            yield CONSTANT if possible is not None and possible <= certain else UNKNOWN


def _aggregates(projection: exp.Expr, scope: Scope) -> bool | None:
    """Return whether an item of a select list aggregates the rows of this select; None if that is not certain."""
    is_certain = True
    for node in projection.walk(prune=lambda node: isinstance(node, exp.Query)):
        if isinstance(node, exp.Query):
            is_certain = is_certain and not _may_aggregate_outside(node, scope)
        elif isinstance(node, exp.Window):
            is_certain = False
        elif not is_windowed(node) and (answer := aggregates(node, scope.names.dialect)) is not False:
            if answer:
                return True
            is_certain = False
    return False if is_certain else None


def _may_aggregate_outside(query: exp.Query, scope: Scope) -> bool:
    """Return whether a subquery may have an aggregate over columns of the query around it, which then aggregates."""
    for node in query.walk():
        if aggregates(node, scope.names.dialect) is not False:
            for column in node.find_all(exp.Column):
                keys = [scope.names.table_key(part) for part in column.parts]
                if means(keys[0], scope) or (len(keys) > 1 and scope.called(tuple(keys[:-1]))):
                    return True
    return False


def _whole(projection: Projection) -> ColumnLineage:
    return combined(column.lineage for column in projection.columns) if projection.complete else UNKNOWN


def _columns(lineage: ColumnLineage) -> set[tuple[str, str]] | None:
    """Return the columns on which a value depends, in whatever way, or None if they are not known."""
    return {(origin.table, origin.column) for origin in lineage.origins} if lineage.known else None
