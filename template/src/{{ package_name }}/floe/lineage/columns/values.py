"""Expressions: the columns on which a value depends.

Every column in an expression is one of its origins. Columns in a condition, an order or a window are indirect origins.
A name that does not certainly mean one column makes the whole value unknown.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Protocol

from sqlglot import exp

from .data_types import proven_type
from .functions import CHOOSING_AGGREGATES
from .meanings import (
    aggregates,
    call_of,
    column_of,
    date_part,
    function_name,
    is_lost_unit,
    is_method,
    is_row,
    is_windowed,
    may_mean,
    row_called,
)
from .model import CONSTANT, DIRECT, INDIRECT, MAY_AGGREGATE, UNKNOWN, ColumnLineage, combined
from .names import Names
from .relation import Relation, Scope
from .structures import with_structure

# The arguments that hold a condition: `case when <this>`, `filter (where <expression>)`.
CONDITIONS = {"this": (exp.If, exp.Case), "expression": (exp.Filter,)}
# The arguments that only choose among values: `any_value(x having max y)`, `arg_max(x, y)`.
CHOICES = {"expression": (exp.HavingMax, exp.ArgMax, exp.ArgMin)}
# sqlglot classifies these as aggregates, but over a window they return a value unchanged.
PICKS = (exp.FirstValue, exp.Lag, exp.LastValue, exp.Lead, exp.NthValue)


class QueryReader(Protocol):
    """A reader of whole queries, for the subqueries in an expression."""

    names: Names

    def query(self, expression: exp.Expr, scope: Scope) -> Relation:
        """Return the result of a query; its sources are added to `scope`, which is still empty."""


def value_of(expression: exp.Expr, scope: Scope, reader: QueryReader) -> ColumnLineage:
    """Return the lineage of an expression."""
    match expression:
        case exp.Paren():
            return value_of(expression.this, scope, reader)
        case exp.Column(this=exp.Star()):
            return _star(expression, scope)
        case exp.Column():
            return date_part(expression, scope) or column_of(expression, scope)
        case exp.Count(this=exp.Column() as row) if is_row(row, scope):
            return CONSTANT
        case exp.Identifier():  # sqlglot uses this instead of a column in some places
            return column_of(exp.Column(this=expression.copy()), scope)
        case exp.Alias():
            return value_of(expression.this, scope, reader)
        case exp.Dot():
            return _field(expression, scope, reader)
        case exp.Star():
            return _star(expression, scope)
        case exp.Exists(this=exp.Query()):
            relation = reader.query(expression.this, scope.within())
            return ColumnLineage(relation.rows, known=relation.rows_known)
        case exp.Query():
            return _subquery(expression, scope, reader)
        case exp.PropertyEQ(this=exp.Identifier() | exp.Literal()) | exp.Kwarg():
            return value_of(expression.expression, scope, reader)
        case exp.Lambda() if any(may_mean(key, scope) for key in _keys(expression.expressions, scope)):
            # `data -> 'key'` looks like a lambda. It is ambiguous only if the name may mean a column.
            return _arrow(expression, scope, reader)
        case exp.Lambda():
            scope = replace(scope, parameters=scope.parameters | _keys(expression.expressions, scope))
        case exp.Comprehension():
            return _comprehension(expression, scope, reader)
        case exp.Parameter(this=exp.Literal()):  # `$1` is the first column of a file
            return UNKNOWN
        case exp.Columns() | exp.Command() | exp.PositionalColumn():
            return UNKNOWN
        case exp.TimeUnit(args={"unit": exp.Var() as unit}) if is_lost_unit(unit, expression, scope):
            return UNKNOWN
        case _:
            pass
    parts = [value_of(part, scope, reader).through(*how) for part, how in _parts(expression, scope)]
    return with_structure(
        expression, combined(parts, proven_type(expression, parts, reader.names.dialect)), parts, reader.names
    )


def _comprehension(expression: exp.Comprehension, scope: Scope, reader: QueryReader) -> ColumnLineage:
    """Return the lineage of `[x for x in list]`, whose variables do not exist in `list`."""
    variables = [part for part in (expression.expression, expression.args.get("position")) if part is not None]
    inside = replace(scope, parameters=scope.parameters | _keys(variables, scope))
    parts = [value_of(expression.args["iterator"], scope, reader)]
    parts += [value_of(part, inside, reader) for key in ("this", "condition") if (part := expression.args.get(key))]
    return combined(parts).through(DIRECT, "TRANSFORMATION")


def _arrow(expression: exp.Lambda, scope: Scope, reader: QueryReader) -> ColumnLineage:
    if not reader.names.arrow_is_json:
        return UNKNOWN
    return combined(value_of(part, scope, reader) for part in (*expression.expressions, expression.this)).through(
        DIRECT, "TRANSFORMATION"
    )


def _field(dot: exp.Dot, scope: Scope, reader: QueryReader) -> ColumnLineage:
    if isinstance(dot.expression, exp.Func):
        return _method(dot, scope, reader)
    inner = dot.this.unnest()
    if isinstance(inner, exp.Column) and len(inner.parts) == 1 and isinstance(dot.expression, exp.Identifier):
        key = scope.names.table_key(inner.this)
        source = row_called(key, scope)
        if source and not scope.own(key):  # `(row).column`
            return source.relation.get(scope.names.table_key(dot.expression), scope.names)
    key = scope.names.table_key(dot.expression) if isinstance(dot.expression, exp.Identifier) else ""
    return value_of(dot.this, scope, reader).field(key)


def _method(dot: exp.Dot, scope: Scope, reader: QueryReader) -> ColumnLineage:
    """Return the lineage of `schema.function(x)` or `x.function()`."""
    if is_method(dot, scope) and isinstance(dot.expression, exp.Anonymous):
        return value_of(call_of(dot, scope.names.dialect), scope, reader)
    return value_of(dot.expression, scope, reader).through(DIRECT, "TRANSFORMATION")


def _star(star: exp.Expr, scope: Scope) -> ColumnLineage:
    """Return the combined lineage of all columns, as in `to_json(*)`; `count(*)` counts rows and reads no column."""
    if any((star.this if isinstance(star, exp.Column) else star).args.values()):  # `* exclude (x)`
        return UNKNOWN
    if isinstance(star.parent, exp.Func) and not scope.names.star_is_an_argument(star.parent):
        return UNKNOWN
    if isinstance(star.parent, exp.Count) and (
        isinstance(star, exp.Star) or scope.names.qualified_star_counts_all_rows
    ):
        return CONSTANT
    if isinstance(star, exp.Column):
        if isinstance(star.parent, exp.Count) and scope.names.qualified_star_counts_all_rows is None:
            return UNKNOWN
        source = scope.called(tuple(scope.names.table_key(part) for part in star.parts[:-1]))
        return source.relation.whole_row() if source else UNKNOWN
    return combined(source.relation.whole_row() for source in scope.visible())


def _subquery(expression: exp.Expr, scope: Scope, reader: QueryReader) -> ColumnLineage:
    relation = reader.query(expression, scope.within())
    columns = combined(column.lineage for column in relation.columns)
    known = columns.known and relation.complete and relation.rows_known
    built = columns.built or len(relation.columns) > 1
    return ColumnLineage(columns.origins | relation.rows, known=known, built=built)


def _parts(expression: exp.Expr, scope: Scope) -> Iterator[tuple[exp.Expr, tuple[str, str]]]:
    """Yield the parts of an expression, and how its value depends on each of them."""
    direct = (DIRECT, _subtype(expression, scope))
    if isinstance(expression, exp.Window):
        yield from _window(expression, scope)
        return
    if isinstance(expression, exp.Collate):
        yield expression.this, (DIRECT, "IDENTITY")  # the other part is the name of a collation
        return
    if isinstance(expression, exp.WithinGroup):
        yield expression.this, direct
        # `percentile_cont(0.5) within group (order by x)` depends directly on x; `listagg(x) within group (order by y)`
        # does not depend directly on y.
        ordered = (INDIRECT, "SORT") if expression.this.find(exp.Column) else (DIRECT, "AGGREGATION")
        yield from ((part, ordered) for part in expression.expression.expressions)
        return
    for key, argument in expression.args.items():
        for part in argument if isinstance(argument, list) else (argument,):
            if not isinstance(part, exp.Expr) or isinstance(part, exp.DataType):  # its fields are not columns
                continue
            if isinstance(expression, CONDITIONS.get(key, ())):
                yield part, (INDIRECT, "CONDITIONAL")
            elif _only_chooses(part, expression):
                yield part, (INDIRECT, "SORT")
            elif isinstance(expression, exp.Paren | exp.Alias) or (key == "this" and isinstance(expression, exp.Order)):
                yield part, (DIRECT, "IDENTITY")
            else:
                yield part, direct


def _subtype(expression: exp.Expr, scope: Scope) -> str:
    """Return the subtype of the step from the arguments of an expression to its value."""
    if isinstance(expression, PICKS) and is_windowed(expression):
        return "TRANSFORMATION"
    answer = aggregates(expression, scope.names.dialect)
    if answer is None and (scope.may_aggregate() or is_windowed(expression)):
        return MAY_AGGREGATE
    return "AGGREGATION" if answer else "TRANSFORMATION"


def _only_chooses(part: exp.Expr, expression: exp.Expr) -> bool:
    """Return whether a part of an expression only decides which of the other values is the result."""
    if isinstance(expression, exp.Anonymous) and function_name(expression) in CHOOSING_AGGREGATES:
        return bool(part.index)
    is_order = isinstance(expression, exp.Order) and part.arg_key == "expressions"
    return is_order or isinstance(expression, CHOICES.get(part.arg_key or "", ()))


def _window(window: exp.Window, scope: Scope) -> Iterator[tuple[exp.Expr, tuple[str, str]]]:
    if isinstance(window.this, exp.Expr) and not isinstance(window.this, exp.Identifier):
        yield window.this, (DIRECT, "TRANSFORMATION")
    for key in ("partition_by", "order", "spec"):
        argument = window.args.get(key)
        for part in argument if isinstance(argument, list) else (argument,):
            if isinstance(part, exp.Order):
                yield from ((ordered, (INDIRECT, "WINDOW")) for ordered in part.expressions)
            elif isinstance(part, exp.Expr):
                yield part, (INDIRECT, "WINDOW")
    base = window.args.get("alias")
    if base is not None:  # `over w`
        named = scope.windows.get(scope.names.table_key(base))
        yield from _window(named, scope) if named is not None and named is not window else [(exp.Command(), ("", ""))]


def _keys(identifiers: list[exp.Expr], scope: Scope) -> frozenset[str]:
    return frozenset(scope.names.table_key(name) for part in identifiers for name in part.find_all(exp.Identifier))
