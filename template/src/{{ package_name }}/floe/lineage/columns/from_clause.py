"""FROM clauses: tables, subqueries, table functions and joins."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Protocol

from sqlglot import exp

from .meanings import unqualified
from .model import CONSTANT, DIRECT, INDIRECT, UNKNOWN, ColumnLineage, combined
from .pivots import pivoted
from .relation import OPAQUE, NamedColumn, Relation, Scope, Shared, Source
from .select_list import GENERATORS, generated
from .values import QueryReader, value_of

SERIES = (exp.ExplodingGenerateSeries, exp.GenerateDateArray, exp.GenerateSeries, exp.GenerateTimestampArray)
# Parts of a table that change its result, and parts of a join, that are not supported here.
UNREAD_OF_TABLE = ("changes", "rows_from", "partition")
UNREAD_OF_JOIN = ("nearest", "expressions", "pivots")


class TableReader(QueryReader, Protocol):
    """A reader of queries that also knows the tables of the warehouse."""

    def table(self, table: exp.Table) -> Relation | None:
        """Return a table of the warehouse, or None if `table` is a function that reads no known table."""


class UnreadError(Exception):
    """A clause of the query is not supported, so nothing is known about its result."""


def add_sources(select: exp.Select, scope: Scope, reader: TableReader) -> list[ColumnLineage]:
    """Add the sources in FROM to `scope`; return the conditions of its joins."""
    first, joins, laterals = select.args.get("from_"), select.args.get("joins") or [], select.args.get("laterals") or []
    conditions: list[ColumnLineage] = []
    if first is not None:
        conditions += _add(first.this, scope, reader)
    if laterals:
        # `lateral view` and joins may use each other's columns, but sqlglot does not keep their order.
        scope.unordered = bool(joins)
        for join in joins:
            _add_joined(join, scope, reader)
        for lateral in laterals:
            conditions += _add(lateral, scope, reader)
        return conditions + [condition for join in joins for condition in _condition(join, scope, reader)]
    return conditions + _add_joins(joins, scope, reader)


def _add_joins(joins: Iterable[exp.Join], scope: Scope, reader: TableReader) -> list[ColumnLineage]:
    conditions: list[ColumnLineage] = []
    for join in joins:
        before = list(scope.sources)
        conditions += _add_joined(join, scope, reader)
        conditions += _condition(join, scope, reader)
        added = scope.sources[len(before) :]
        if join.args.get("using") or join.method == "NATURAL":
            conditions += _merge(join, before, added, scope)
        if join.kind in {"SEMI", "ANTI"}:
            for source in added:
                source.visible = False
    return conditions


def _add_joined(join: exp.Join, scope: Scope, reader: TableReader) -> list[ColumnLineage]:
    if any(join.args.get(part) for part in UNREAD_OF_JOIN):
        raise UnreadError("an unsupported kind of join")
    return _add(join.this, scope, reader)


def _condition(join: exp.Join, scope: Scope, reader: TableReader) -> list[ColumnLineage]:
    conditions = [join.args[key] for key in ("on", "match_condition") if join.args.get(key)]
    return [value_of(condition, scope, reader).through(INDIRECT, "JOIN") for condition in conditions]


def _merge(join: exp.Join, left: list[Source], right: list[Source], scope: Scope) -> list[ColumnLineage]:
    """Merge the columns that the sides of a join share; return them as the join's condition."""
    names = scope.names
    before = Scope(names, scope.ctes, None, left, scope.shared, scope.unclear)
    after = Scope(names, scope.ctes, None, right)
    if join.method == "NATURAL":
        if not all(source.relation.complete and source.relation.has_names() for source in [*left, *right]):
            scope.unclear = True
            return [UNKNOWN]
        keys = [names.key(c.name) for s in left for c in s.relation.columns if after.candidates(names.key(c.name))]
        spellings = {c.name for s in [*left, *right] for c in s.relation.columns if names.key(c.name) in keys}
        if len(spellings) > len(set(keys)) and not names.natural_join_ignores_case:
            scope.unclear = True
            return [UNKNOWN]
    else:
        keys = [names.table_key(identifier) for identifier in join.args["using"]]
    spellings_of_using = {names.table_key(item): names.spelled(item) for item in join.args.get("using") or ()}
    conditions = []
    merged: dict[str, Shared] = {}
    for key in dict.fromkeys(keys):
        own, other = before.own(key), after.own(key)
        one, two = unqualified(key, before), unqualified(key, after)
        conditions += [one.through(INDIRECT, "JOIN"), two.through(INDIRECT, "JOIN")]
        spelled = other if join.side == "RIGHT" else own
        name = spelled.name if spelled else "" if names.keeps_spelling else key
        if names.using_spells_columns:
            name = spellings_of_using.get(key, name)
        value = {"RIGHT": two, "FULL": combined((one, two)).through(DIRECT, "TRANSFORMATION")}.get(join.side, one)
        earlier = scope.shared[key].sources if key in scope.shared else tuple(before.candidates(key))
        merged[key] = Shared(NamedColumn(name, value), (*earlier, *after.candidates(key)))
    scope.shared = {**merged, **{key: shared for key, shared in scope.shared.items() if key not in merged}}
    return conditions


def _add(item: exp.Expr, scope: Scope, reader: TableReader) -> list[ColumnLineage]:
    """Add one item of FROM to `scope`; return the conditions of the joins inside it."""
    if isinstance(item, exp.Subquery) and not isinstance(item.this, exp.Query | exp.Values | exp.Pivot):
        if item.args.get("alias") or item.args.get("pivots"):
            raise UnreadError("a join in brackets with an alias")
        conditions = _add(item.this, scope, reader)  # `(a join b on …)`
    else:
        for source in _sources(item, scope, reader):
            for pivot in item.args.get("pivots") or ():
                source.relation = pivoted(source.relation, pivot, scope, reader)
                if alias := pivot.args.get("alias"):
                    source.parts = (scope.names.table_key(alias.this),)
            scope.sources.append(source)
        conditions = []
    if item.args.get("laterals"):
        raise UnreadError("a lateral view inside a join")
    return conditions + (_add_joins(item.args.get("joins") or (), scope, reader))


def _sources(item: exp.Expr, scope: Scope, reader: TableReader) -> Iterator[Source]:
    names = scope.names
    match item:
        case exp.Table() if names.tables_may_be_lists and _is_list(item, scope):
            yield from _unnest(_as_unnest(item), scope, reader)
        case exp.Table() if isinstance(item.this, exp.Identifier) or (item.this is not None and reader.table(item)):
            yield Source(_parts(item, scope), _table(item, scope, reader))
        case exp.Table(this=exp.Func()) | exp.TableFromRows(this=exp.Func()):
            yield from _function(item.this, item, scope, reader)
        case exp.Unnest():
            yield from _unnest(item, scope, reader)
        case exp.Lateral(this=exp.Unnest() as unnest):
            unnest.set("alias", item.args.get("alias"))
            yield from _unnest(unnest, scope, reader)
        case exp.Lateral(this=exp.Subquery()):
            yield _aliased(item, reader.query(item.this, scope.within()), scope)
        case exp.Lateral(this=exp.Func()):
            yield from _function(item.this, item, scope, reader)
        case exp.Subquery():
            inside = scope.within() if names.subqueries_see_siblings else scope.sibling()
            yield _aliased(item, reader.query(item.this, inside), scope)
        case exp.Values():
            yield _aliased(item, values(item, scope, reader), scope)
        case exp.Pivot():
            yield _aliased(item, reader.query(item, scope.sibling()), scope)
        case _:
            yield _aliased(item, OPAQUE, scope)


def _is_list(item: exp.Table, scope: Scope) -> bool:
    first = scope.names.table_key(item.parts[0])
    return len(item.parts) > 1 and any(source.parts[-1:] == (first,) for source in scope.sources)


def _as_unnest(item: exp.Table) -> exp.Unnest:
    alias = item.args.get("alias")
    path: exp.Expr = exp.Column(this=item.parts[1].copy(), table=item.parts[0].copy())
    for field in item.parts[2:]:
        path = exp.Dot(this=path, expression=field.copy())
    return exp.Unnest(expressions=[path], alias=exp.TableAlias(columns=[alias.this.copy()]) if alias else None)


def _table(item: exp.Table, scope: Scope, reader: TableReader) -> Relation:
    if any(item.args.get(part) for part in UNREAD_OF_TABLE):
        return OPAQUE
    columns = _alias_columns(item, scope)
    if isinstance(item.this, exp.Identifier) and len(item.parts) == 1:
        cte = scope.ctes.get(scope.names.table_key(item.this))
        if cte is not None:
            return cte.renamed(columns)
    return (reader.table(item) or OPAQUE).renamed(columns)


def _parts(item: exp.Table, scope: Scope) -> tuple[str, ...]:
    return _alias(item, scope) or tuple(scope.names.table_key(part) for part in item.parts)


def _aliased(item: exp.Expr, relation: Relation, scope: Scope) -> Source:
    return Source(_alias(item, scope), relation.renamed(_alias_columns(item, scope)))


def _alias(item: exp.Expr, scope: Scope) -> tuple[str, ...]:
    alias = item.args.get("alias")
    return (scope.names.table_key(alias.this),) if alias is not None and alias.this is not None else ()


def _alias_columns(item: exp.Expr, scope: Scope) -> list[str]:
    alias = item.args.get("alias")
    columns = alias.args.get("columns") or [] if alias is not None else []
    return [scope.names.spelled(c.this if isinstance(c, exp.ColumnDef) else c) for c in columns]


def _function(function: exp.Expr, item: exp.Expr, scope: Scope, reader: TableReader) -> Iterator[Source]:
    """Yield the source of a table function, whose columns depend on its arguments."""
    alias = _alias(item, scope)
    columns = _alias_columns(item, scope) or scope.names.function_columns(function)
    if not columns and alias and isinstance(function, SERIES) and scope.names.functions_name_their_column:
        columns = [scope.names.spelled(item.args["alias"].this)]
    lineages = generated(function, max(len(columns), 1), scope, reader)
    # A function without columns in its arguments may read anything, such as a file.
    is_known = isinstance(function, (*GENERATORS, *SERIES, exp.Generator, exp.SplitToTable))
    is_of_rows = function.find(exp.Query) is not None  # a function of several rows, which it may aggregate
    lineages = [x if is_known or (x.origins and not is_of_rows) else UNKNOWN for x in lineages]
    value = combined(lineages)
    yield Source(
        alias,
        Relation(
            list(map(NamedColumn, columns, lineages)),
            complete=bool(columns) and is_known and not item.args.get("ordinality"),
            rest=lambda _: value.parts(),
            rows=value.through(INDIRECT, "JOIN").origins,
            rows_known=value.known,
            row=value,
        ),
    )


def _unnest(item: exp.Unnest, scope: Scope, reader: TableReader) -> Iterator[Source]:
    lists = [value_of(part, scope, reader).through(DIRECT, "TRANSFORMATION") for part in item.expressions]
    lineages = [replace(value, type=None) for value in lists]  # an element has another type than its list
    columns = _alias_columns(item, scope)
    alias, value = _alias(item, scope), combined(lineages)
    rows = value.through(INDIRECT, "JOIN")
    if columns and not alias:
        # BigQuery and Redshift: the alias names the element, whose fields are columns.
        element = Relation(rest=value.field, rows=rows.origins, rows_known=rows.known, row=value)
        yield Source((scope.names.key(columns[0]),), element)
        if isinstance(item.args.get("offset"), exp.Identifier):
            offset = NamedColumn(scope.names.spelled(item.args["offset"]), CONSTANT)
            yield Source((), Relation([offset], complete=True))
        return
    named = list(map(NamedColumn, columns, lineages))
    position = item.args.get("offset")  # `with ordinality`
    extra = columns[len(lineages) :]
    if isinstance(position, exp.Identifier):
        extra.append(scope.names.spelled(position))
    # Without a position, these are further fields of a list's composite elements.
    further = CONSTANT if position else value.parts() if len(lineages) == 1 else UNKNOWN
    named += [NamedColumn(name, further) for name in extra]
    complete = len(columns) >= len(lineages) and bool(columns) and bool(extra or not position)
    yield Source(alias, Relation(named, complete, lambda _: value.parts(), rows.origins, rows.known, value))


def values(item: exp.Values, scope: Scope, reader: QueryReader) -> Relation:
    """Return the result of VALUES."""
    rows = [row.expressions if isinstance(row, exp.Tuple) else [row] for row in item.expressions]
    count = len(rows[0])
    given = _alias_columns(item, scope)
    names = scope.names.value_names(count) or (given if len(given) == count else None)
    if names is None or any(len(row) != count for row in rows):
        return Relation()
    columns = [combined(value_of(row[position], scope, reader) for row in rows) for position in range(count)]
    return Relation([NamedColumn(*pair) for pair in zip(names, columns, strict=True)], complete=True)
