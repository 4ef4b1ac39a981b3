"""Queries: common table expressions, set operations and selects.

A clause that this module does not support makes the result of its query unknown; it is never ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from sqlglot import exp

from .clauses import CLAUSES, conditions, items, may_group, position_of
from .from_clause import UnreadError, add_sources, values
from .model import INDIRECT, UNKNOWN, ColumnLineage, TableColumns, combined
from .names import Names
from .pivots import pivoted
from .relation import OPAQUE, Relation, Scope
from .select_list import select_list
from .set_operations import set_operation
from .tables import Tables
from .values import value_of

# Other parts of a query, which are read elsewhere or do not affect columns.
KNOWN_ARGUMENTS = {
    *("with_", "kind", "expressions", "hint", "distinct", "from_", "operation_modifiers", "laterals", "joins"),
    *("windows", "distribute", "locks", "sample", "settings", "format", "options", "this", "expression", "by_name"),
    *("alias", "pivots"),
}
# Clauses that are not supported outside a select.
UNREAD_OUTSIDE = ("where", "group", "having", "qualify")
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
        joins = add_sources(select, scope, self)
        for window in select.args.get("windows") or ():
            scope.windows[self.names.table_key(window.this)] = window
        scope.groups = may_group(select, scope)
        relation = select_list(select.expressions, scope, self)
        condition = combined((*joins, *conditions(select, relation, scope, self)))
        sources = [relation, *(source.relation for source in scope.sources)]
        return replace(
            relation,
            rows=condition.origins.union(*(source.rows for source in sources)),
            rows_known=condition.known and all(source.rows_known for source in sources),
        )

    def _clauses(self, expression: exp.Expr, relation: Relation, scope: Scope) -> Relation:
        """Return `relation` with the effect on its rows of clauses outside a select, such as `order by`."""
        if _has_unread(expression) or any(expression.args.get(name) for name in UNREAD_OUTSIDE):
            return OPAQUE
        sorts: list[ColumnLineage] = []
        clauses = [clause for name in ("order", "sort", "cluster") if (clause := expression.args.get(name))]
        for item in (item for clause in clauses for item in clause.expressions):
            inner = item.this if isinstance(item, exp.Ordered) else item
            position = position_of(inner)
            is_certain = not isinstance(inner, exp.Paren) or self.names.brackets_keep_positions
            if position and is_certain and relation.complete and relation.in_order:
                sorts += [column.lineage for column in relation.columns[position - 1 :][:1]]
            elif isinstance(inner, exp.Column) and len(inner.parts) == 1:
                sorts.append(relation.get(self.names.table_key(inner.this), self.names))
            else:
                sorts.append(UNKNOWN)
        condition = combined(sorts).through(INDIRECT, "SORT")
        for name in ("limit", "offset"):
            if clause := expression.args.get(name):
                limits = [value_of(item, scope, self).through(INDIRECT, "FILTER") for item in items(clause)]
                condition = combined((condition, *limits))
        return replace(
            relation, rows=relation.rows | condition.origins, rows_known=relation.rows_known and condition.known
        )


def _has_unread(expression: exp.Expr) -> bool:
    return any(value for name, value in expression.args.items() if name not in CLAUSES and name not in KNOWN_ARGUMENTS)
