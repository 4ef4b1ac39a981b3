"""Queries: common table expressions, set operations, selects and their clauses.

A clause that this module does not support makes the result of its query unknown; it is never ignored.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from sqlglot import exp

from .model import INDIRECT, UNKNOWN, ColumnLineage, TableColumns, combined
from .names import Names
from .pivots import pivoted
from .relation import OPAQUE, Relation, Scope
from .select_list import select_list
from .set_operations import all_columns, set_operation
from .sources import UnreadError, add_sources, values
from .tables import Tables
from .values import value_of

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
# Other parts of a query, which are read elsewhere or do not affect columns.
KNOWN_ARGUMENTS = {
    *("with_", "kind", "expressions", "hint", "distinct", "from_", "operation_modifiers", "laterals", "joins"),
    *("windows", "distribute", "locks", "sample", "settings", "format", "options", "this", "expression", "by_name"),
    *("alias", "pivots"),
}
GROUPS = (exp.Cube, exp.Group, exp.GroupingSets, exp.Rollup, exp.Tuple)
ROUNDS = 10  # limit for reading a recursive query until it is stable; each adds one step of a path between columns


class Reader:
    """The reader of one statement."""

    def __init__(self, tables: Mapping[str, TableColumns], dialect: str) -> None:
        """Read a statement with these known tables, by their names in the SQL."""
        self.names = Names(dialect)
        self.tables = Tables(tables, self.names)

    def table(self, table: exp.Table) -> Relation | None:
        """Return a table of the warehouse, or None if `table` is a function that reads no known table."""
        return self.tables.relation(table)

    def query(self, expression: exp.Expr, scope: Scope) -> Relation:
        """Return the result of a query; its sources are added to `scope`, which is still empty."""
        try:
            scope = self._with_ctes(expression, scope)
            match expression:
                case exp.Select():
                    return self._select(expression, scope)
                case exp.SetOperation():
                    return self._set_operation(expression, scope)
                case exp.Subquery():
                    return self._clauses(expression, self.query(expression.this, scope.sibling()), scope)
                case exp.Values():
                    return values(expression, scope, self)
                case exp.Pivot():
                    add_sources(exp.Select(from_=exp.From(this=expression.this.copy())), scope, self)
                    return pivoted(scope.sources[0].relation, expression, scope, self)
        except UnreadError:
            pass
        return OPAQUE

    def _with_ctes(self, expression: exp.Expr, scope: Scope) -> Scope:
        clause = expression.args.get("with_")
        if clause is None:
            return scope
        ctes = dict(scope.ctes)
        for cte in clause.expressions:
            key = self.names.table_key(cte.args["alias"].this)
            ctes[key] = self._cte(cte, key, scope.sibling(ctes), is_recursive=self._is_recursive(clause))
            if clause.args.get("search") or clause.args.get("cycle"):
                ctes[key] = replace(ctes[key], complete=False)  # these clauses add columns
        return scope.sibling(ctes)

    def _is_recursive(self, clause: exp.Expr) -> bool:
        return bool(clause.args.get("recursive")) or self.names.recursive_may_be_left_out

    def _cte(self, cte: exp.CTE, key: str, scope: Scope, *, is_recursive: bool) -> Relation:
        columns = [self.names.spelled(name) for name in cte.args["alias"].args.get("columns") or ()]
        if cte.args.get("scalar") or cte.args.get("key_expressions"):
            return OPAQUE
        query = cte.this.unnest() if isinstance(cte.this, exp.Subquery) else cte.this
        names_itself = any(
            len(table.parts) == 1 and self.names.table_key(table.this) == key
            for table in query.find_all(exp.Table)
            if isinstance(table.this, exp.Identifier)
        )
        if not (is_recursive and names_itself and isinstance(query, exp.SetOperation)):
            return self.query(cte.this, scope.sibling()).renamed(columns)
        relation = self.query(query.left, scope.sibling()).renamed(columns)
        for _ in range(ROUNDS):
            again = self.query(query, scope.sibling({**scope.ctes, key: relation})).renamed(columns)
            if again.columns == relation.columns and again.rows == relation.rows:
                return again
            relation = again
        return OPAQUE

    def _set_operation(self, expression: exp.SetOperation, scope: Scope) -> Relation:
        # Generated SQL chains hundreds of set operations, so the left sides are not read recursively.
        chain = [expression]
        while isinstance(left := chain[-1].left, exp.SetOperation) and not left.args.get("with_"):
            chain.append(left)
        relation = self.query(chain[-1].left, scope.sibling())
        for operation in reversed(chain):
            if any(operation.args.get(part) for part in ("side", "kind", "on")):
                return OPAQUE
            relation = set_operation(relation, self.query(operation.right, scope.sibling()), operation, self.names)
            relation = self._clauses(operation, relation, scope)
        return relation

    def _select(self, select: exp.Select, scope: Scope) -> Relation:
        if _has_unread(select) or select.args.get("kind") == "VALUE" or select.args.get("pivots"):
            return OPAQUE
        conditions = add_sources(select, scope, self)
        for window in select.args.get("windows") or ():
            scope.windows[self.names.table_key(window.this)] = window
        scope.projections = select.expressions
        relation = select_list(select.expressions, scope, self)
        for name, subtype in CLAUSES.items():
            if clause := select.args.get(name):
                conditions += [value.through(INDIRECT, subtype) for value in self._clause(clause, scope)]
        conditions += self._distinct(select, scope, relation)
        condition = combined(conditions)
        sources = [relation, *(source.relation for source in scope.sources)]
        return replace(
            relation,
            rows=condition.origins.union(*(source.rows for source in sources)),
            rows_known=condition.known and all(source.rows_known for source in sources),
        )

    def _clause(self, clause: exp.Expr, scope: Scope) -> Iterator[ColumnLineage]:
        """Yield the lineage of a clause's items; a position, or the name of a result column, stands for that column."""
        if isinstance(clause, exp.Group | exp.Order) and _is_all(clause):
            yield from (
                value_of(projection.unalias(), scope, self)
                for projection in scope.projections
                if not (isinstance(clause, exp.Group) and projection.find(exp.AggFunc, exp.AnonymousAggFunc))
            )
            return
        for item in _items(clause):
            inner = item.this if isinstance(item, exp.Ordered) else item
            if isinstance(clause, exp.Group | exp.Order) and isinstance(inner, exp.Literal) and inner.is_int:
                position = int(inner.this)
                named = scope.projections[position - 1 : position]
                stars = any(projection.is_star for projection in scope.projections[:position])
                yield UNKNOWN if stars or not named else value_of(named[0].unalias(), scope, self)
            elif clash := self._clash(inner, scope):
                by_name = isinstance(clause, exp.Order | exp.Sort) and isinstance(inner, exp.Column)
                yield clash if by_name else UNKNOWN
            else:
                yield value_of(inner, scope, self)

    def _clash(self, expression: exp.Expr, scope: Scope) -> ColumnLineage | None:
        """Return an alias in `expression` that is also a column with other origins; engines differ in precedence."""
        for column in expression.find_all(exp.Column):
            key = self.names.table_key(column.this) if len(column.parts) == 1 else None
            alias = scope.aliases.get(key) if key else None
            own = scope.own(key) if key and alias else None
            if alias and own and _columns_of(alias) != _columns_of(own.lineage):
                return alias
        return None

    def _distinct(self, select: exp.Select, scope: Scope, relation: Relation) -> list[ColumnLineage]:
        distinct = select.args.get("distinct")
        if distinct is None:
            return []
        on = distinct.args.get("on")
        if on is None:
            return [all_columns(relation).through(INDIRECT, "GROUP_BY")]
        items = on.expressions if isinstance(on, exp.Tuple) else [on]
        return [value_of(item, scope, self).through(INDIRECT, "GROUP_BY") for item in items]

    def _clauses(self, expression: exp.Expr, relation: Relation, scope: Scope) -> Relation:
        """Return `relation` with the effect on its rows of clauses outside a select, such as `order by`."""
        if _has_unread(expression) or any(expression.args.get(name) for name in ("where", "group", "having")):
            return OPAQUE
        conditions: list[ColumnLineage] = []
        for item in expression.args["order"].expressions if expression.args.get("order") else ():
            if isinstance(item.this, exp.Literal) and item.this.is_int and relation.complete:
                conditions += [column.lineage for column in relation.columns[int(item.this.this) - 1 :][:1]]
            elif isinstance(item.this, exp.Column) and len(item.this.parts) == 1:
                conditions.append(relation.get(self.names.table_key(item.this.this), self.names))
            else:
                conditions.append(UNKNOWN)
        condition = combined(conditions).through(INDIRECT, "SORT")
        for name in ("limit", "offset"):
            if clause := expression.args.get(name):
                limits = [value_of(item, scope, self).through(INDIRECT, "FILTER") for item in _items(clause)]
                condition = combined((condition, *limits))
        return replace(
            relation, rows=relation.rows | condition.origins, rows_known=relation.rows_known and condition.known
        )


def _columns_of(lineage: ColumnLineage) -> set[tuple[str, str]] | None:
    return {(origin.table, origin.column) for origin in lineage.origins} if lineage.known else None


def _has_unread(expression: exp.Expr) -> bool:
    return any(value for name, value in expression.args.items() if name not in CLAUSES and name not in KNOWN_ARGUMENTS)


def _items(clause: exp.Expr) -> Iterator[exp.Expr]:
    """Yield the items of a clause, including those inside `rollup (…)` and similar."""
    for item in clause.iter_expressions():
        inner = item.unnest()
        if isinstance(clause, GROUPS) and isinstance(inner, GROUPS):
            yield from _items(inner)
        else:
            yield inner


def _is_all(clause: exp.Expr) -> bool:
    items = clause.expressions
    return bool(clause.args.get("all")) or (
        len(items) == 1 and isinstance(items[0], exp.Ordered) and isinstance(items[0].this, exp.Var)
    )
