"""A query's scopes, qualified by sqlglot -> the origins of its columns.

In: one scope of sqlglot (https://sqlglot.com/sqlglot/optimizer/scope.html), whose columns name their table. Out: its
columns and what decides on its rows, followed through common table expressions, subqueries and unions down to tables.
Each scope is read once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from sqlglot import exp
from sqlglot.optimizer.scope import Scope

from .origins import DIRECT, INDIRECT, UNKNOWN, Column, Origin

# A query's clauses, and how the columns in them bear on its rows.
CLAUSES = {
    "where": "FILTER",
    "having": "FILTER",
    "qualify": "FILTER",
    "group": "GROUP_BY",
    "distinct": "GROUP_BY",
    "order": "SORT",
    "sort": "SORT",
}
# Where an expression holds a condition: `case when <this>`, `filter (where <expression>)`.
CONDITIONS = {"this": (exp.If, exp.Case), "expression": (exp.Filter,)}
# sqlglot counts these among the aggregates; they hand on a value as it is.
PICKS = (exp.FirstValue, exp.Lag, exp.LastValue, exp.Lead, exp.NthValue)


@dataclass(slots=True)
class Result:
    """What a scope yields; `stars` are the sources, by name, whose columns it passes on without naming them."""

    columns: dict[str, Column] = field(default_factory=dict)
    rows: set[Origin] = field(default_factory=set)
    stars: list[str] = field(default_factory=list)
    excluded: set[str] = field(default_factory=set)


class Reader:
    """Reads the scopes of one statement."""

    def __init__(self, tables: Mapping[str, Mapping[str, str | None]], complete: set[str], dialect: str) -> None:
        """Take the known tables with the types of their columns, and which of them have no other columns."""
        self._tables = tables
        self._complete = complete
        self._dialect = dialect
        self._results: dict[int, Result] = {}

    def read(self, scope: Scope) -> Result:
        """Return what a scope yields."""
        key = id(scope.expression)
        if key not in self._results:
            self._results[key] = Result()  # what a recursive query finds of itself
            if _is_set(scope):
                self._results[key] = self._set_operation(scope)
            else:
                self._select(scope, self._results[key])
        return self._results[key]

    def _set_operation(self, scope: Scope) -> Result:
        left, right = (self.read(branch) for branch in scope.set_operation_scopes)
        result = Result(dict(left.columns), left.rows | right.rows, left.stars + right.stars)
        by_name = scope.expression.args.get("by_name")
        others = right.columns if by_name else dict(zip(left.columns, right.columns.values(), strict=False))
        for name, other in others.items():
            mine = left.columns.get(name)
            result.columns[name] = _either(mine, other) if mine else other
        if left.stars or right.stars:
            # Their columns cannot be told apart by position.
            result.columns = dict.fromkeys(result.columns, UNKNOWN)
        result.rows |= self._clauses(scope)
        return result

    def _select(self, scope: Scope, result: Result) -> None:
        for projection in scope.expression.selects if isinstance(scope.expression, exp.Query) else ():
            if projection.is_star:
                self._star(projection, scope, result)
            else:
                result.columns[projection.alias_or_name] = self._value(projection.unalias(), scope)
        result.rows |= self._clauses(scope)
        for source in scope.selected_sources.values():
            if isinstance(source[1], Scope) and not source[1].is_udtf:
                result.rows |= self.read(source[1]).rows

    def _star(self, projection: exp.Expr, scope: Scope, result: Result) -> None:
        star = projection.find(exp.Star) or exp.Star()
        excluded = {each.name for key in ("except_", "replace", "rename") for each in star.args.get(key) or ()}
        if isinstance(projection, exp.Dot):  # of a struct, whose fields nobody has told
            result.stars.append("")
            return
        table = projection.table if isinstance(projection, exp.Column) else ""
        for name in [table] if table else list(scope.selected_sources):
            columns, complete = self._source_columns(name, scope)
            for column in columns if complete else ():
                if column not in excluded:
                    result.columns[column] = self._from_source(name, column, scope)
            if not complete:
                result.stars.append(name)
                result.excluded |= excluded
        for alias in star.args.get("replace") or ():
            result.columns[alias.alias] = self._value(alias.unalias(), scope)

    def _source_columns(self, name: str, scope: Scope) -> tuple[Iterable[str], bool]:
        source = _source(name, scope)
        if isinstance(source, exp.Table):
            return self._tables.get(source.name, ()), source.name in self._complete and not source.args.get("pivots")
        if source is None or source.is_udtf:
            return (), False
        inner = self.read(source)
        return inner.columns, not inner.stars

    def _value(self, expression: exp.Expr, scope: Scope) -> Column:
        """Return what an expression is made of."""
        if isinstance(expression, exp.Paren):
            return self._value(expression.this, scope)
        if isinstance(expression, exp.Column):
            return self._column(expression, scope)
        if isinstance(expression, exp.Subquery | exp.Query):
            return self._scalar_subquery(expression, scope)
        parts = [self._value(part, scope).through(*how) for part, how in _parts(expression)]
        return Column(
            frozenset(origin for part in parts for origin in part.origins),
            _proven_type(expression, parts, self._dialect),
            all(part.known for part in parts),
        )

    def _scalar_subquery(self, expression: exp.Expr, scope: Scope) -> Column:
        query = expression.unnest() if isinstance(expression, exp.Subquery) else expression
        inner = next((each for each in scope.subquery_scopes if each.expression is query), None)
        if inner is None:
            return UNKNOWN
        result = self.read(inner)
        origins = frozenset(origin for column in result.columns.values() for origin in column.origins)
        return Column(origins | result.rows, known=not result.stars and all(c.known for c in result.columns.values()))

    def _column(self, column: exp.Column, scope: Scope) -> Column:
        if isinstance(column.this, exp.Star):  # count(t.*)
            return Column()
        if column.table:
            return self._from_source(column.table, column.name, scope)
        sources = list(scope.selected_sources)
        holders = [name for name in sources if column.name in self._source_columns(name, scope)[0]]
        if not holders and (named := self.read(scope).columns.get(column.name)):
            return named  # `order by` the name of a result
        candidates = holders or [name for name in sources if not self._source_columns(name, scope)[1]]
        return self._from_source(candidates[0], column.name, scope) if len(candidates) == 1 else UNKNOWN

    def _from_source(self, name: str, column: str, scope: Scope) -> Column:
        source = _source(name, scope)
        if isinstance(source, exp.Table):
            return self._from_table(source, column)
        if source is None:
            return UNKNOWN
        if source.is_udtf:
            return self._from_function(source)
        result = self.read(source)
        if column in result.columns:
            return result.columns[column]
        # dbt ran the SQL, so the column exists: the one table that may have it has it.
        if len(result.stars) == 1 and column not in result.excluded and not _is_set(source):
            return self._from_source(result.stars[0], column, source)
        return UNKNOWN

    def _from_table(self, table: exp.Table, column: str) -> Column:
        if table.args.get("pivots"):
            return UNKNOWN
        columns = self._tables.get(table.name)
        if columns is None:
            return Column(frozenset({Origin(table.name, column)}), known=False)
        if column not in columns and table.name in self._complete:
            return UNKNOWN
        return Column(frozenset({Origin(table.name, column)}), columns.get(column))

    def _from_function(self, source: Scope) -> Column:
        # unnest(x) and the like: what comes out is made of what goes in, which an outer scope has.
        outer = source.parent
        found = [self._column(each, outer) for each in source.expression.find_all(exp.Column)] if outer else [UNKNOWN]
        origins = frozenset(origin for column in found for origin in column.origins)
        return Column(origins, known=all(column.known for column in found)).through(DIRECT, "TRANSFORMATION")

    def _clauses(self, scope: Scope) -> set[Origin]:
        found: set[Origin] = set()
        args = scope.expression.args
        clauses = [(args[name], subtype) for name, subtype in CLAUSES.items() if args.get(name)]
        for join in args.get("joins") or ():
            clauses += [(part, "JOIN") for part in (join.args.get("on"), *(join.args.get("using") or ())) if part]
        for clause, subtype in clauses:
            found |= self._indirect(clause, subtype, scope)
        return found

    def _indirect(self, expression: exp.Expr, subtype: str, scope: Scope) -> frozenset[Origin]:
        return self._value(expression, scope).through(INDIRECT, subtype).origins


def _parts(expression: exp.Expr) -> Iterator[tuple[exp.Expr, tuple[str, str]]]:
    """Yield the parts of an expression, and how it depends on each."""
    aggregates = isinstance(expression, exp.AggFunc) and not isinstance(expression, PICKS)
    how = (DIRECT, "AGGREGATION" if aggregates else "TRANSFORMATION")
    for key, value in expression.args.items():
        for part in value if isinstance(value, list) else (value,):
            if not isinstance(part, exp.Expr):
                continue
            if isinstance(expression, exp.Window) and key in {"partition_by", "order"}:
                yield part, (INDIRECT, "WINDOW")
            elif isinstance(expression, CONDITIONS.get(key, ())):
                yield part, (INDIRECT, "CONDITIONAL")
            else:
                yield part, how


def _proven_type(expression: exp.Expr, parts: list[Column], dialect: str) -> str | None:
    if isinstance(expression, exp.Cast):
        return expression.to.sql(dialect)
    if isinstance(expression, exp.Predicate | exp.Connector | exp.Not):
        return exp.DataType.build("boolean").sql(dialect)
    # The least and the greatest of some values is one of them.
    return parts[0].type if isinstance(expression, exp.Min | exp.Max) and parts else None


def _source(name: str, scope: Scope) -> exp.Table | Scope | None:
    """Return what a name stands for, in a scope or in those around it."""
    around: Scope | None = scope
    while around is not None:
        if name in around.sources:
            return around.sources[name]
        around = around.parent
    return None


def _either(one: Column, other: Column) -> Column:
    return Column(one.origins | other.origins, one.type if one.type == other.type else None, one.known and other.known)


def _is_set(scope: Scope) -> bool:
    return isinstance(scope.expression, exp.SetOperation)
