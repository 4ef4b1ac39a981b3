"""The meaning of a name in its scope: a column, a field, a row, a function or a keyword."""

from __future__ import annotations

from sqlglot import exp
from sqlglot.dialects.dialect import Dialect
from sqlglot.dialects.spark import Spark

from .functions import AGGREGATE_NAMES, SCALAR_NAMES, SCALARS
from .model import CONSTANT, UNKNOWN, ColumnLineage
from .names import ABBREVIATED, DATE_PARTS
from .relation import NamedColumn, Relation, Scope, Source


def column_of(column: exp.Column, scope: Scope) -> ColumnLineage:
    """Return the lineage of a column or of a column's field."""
    keys = [scope.names.table_key(part) for part in column.parts]
    if keys[0] in scope.parameters:
        return CONSTANT
    if len(keys) > 1 and scope.names.columns_hide_tables and scope.own(keys[0]):
        return with_fields(unqualified(keys[0], scope), keys[1:])
    if len(keys) == 1:
        is_function_name = scope.names.is_no_paren_function(column.this)
        return _no_paren_function(column, scope) if is_function_name else unqualified(keys[0], scope)
    match scope.holder(keys):
        case NamedColumn() as own:
            return with_fields(own.lineage, keys[1:])
        case Relation() as relation, int() as position:
            return with_fields(relation.get(keys[position], scope.names), keys[position + 1 :])
    # A field of an alias, or of a column that may be hidden. If a source of this name lacks the column, it is unknown.
    return UNKNOWN if scope.called((keys[0],)) else with_fields(unqualified(keys[0], scope), keys[1:])


def unqualified(key: str, scope: Scope) -> ColumnLineage:
    """Return the lineage of an unqualified name: a column, an alias, a whole row, or a column of an outer query."""
    if column := scope.own(key):
        return column.lineage
    meanings = [source.relation.get(key, scope.names) for source in scope.candidates(key)]
    is_open = bool(meanings)  # these may or may not have the column, so all possible meanings have to agree
    if row := row_called(key, scope):
        meanings.append(row.relation.whole_row())
    if key in scope.aliases and (is_open or not meanings):
        meanings.append(scope.aliases[key])
    if scope.outer and (not meanings or (is_open and may_mean(key, scope.outer))):
        meanings.append(unqualified(key, scope.outer))
    agree = meanings and all(meaning == meanings[0] for meaning in meanings)
    return meanings[0] if agree and not (is_open and scope.unclear) else UNKNOWN


def means(key: str, scope: Scope) -> bool:
    """Return whether a name may mean a parameter, an alias, a column or a row."""
    return key in scope.parameters or key in scope.aliases or may_mean(key, scope)


def may_mean(key: str, scope: Scope) -> bool:
    """Return whether a name may mean a column or a row, in this scope or an outer one."""
    return bool(
        scope.own(key)
        or scope.candidates(key)
        or row_called(key, scope)
        or (scope.outer is not None and may_mean(key, scope.outer))
    )


def row_called(key: str, scope: Scope) -> Source | None:
    """Return the source whose whole row a name may mean."""
    sources = [source for source in scope.visible() if source.parts and source.parts[-1].lower() == key.lower()]
    return sources[0] if len(sources) == 1 else None


def is_row(column: exp.Column, scope: Scope) -> bool:
    """Return whether a name means a whole row."""
    key = scope.names.table_key(column.this)
    is_bare = len(column.parts) == 1 and isinstance(column.this, exp.Identifier)
    return is_bare and not scope.candidates(key) and row_called(key, scope) is not None


def with_fields(column: ColumnLineage, fields: list[str]) -> ColumnLineage:
    """Return the lineage of a field of a column, or the column itself if there are no fields."""
    for key in fields:
        column = column.field(key)
    return column


def is_function(column: exp.Column, scope: Scope) -> bool:
    """Return whether a column may be a function without brackets, for whose result the engine chooses the name."""
    names, is_bare = scope.names, len(column.parts) == 1 and isinstance(column.this, exp.Identifier)
    if not is_bare or not names.is_no_paren_function(column.this) or not names.no_paren_functions_may_be_columns:
        return False
    return not (names.columns_hide_no_paren_functions and scope.own(names.table_key(column.this)))


def aggregates(expression: exp.Expr, dialect: str) -> bool | None:
    """Return whether an expression itself aggregates rows; None if it is a function of which that is not known."""
    engine = Dialect.get_or_raise(dialect)
    if isinstance(expression, exp.Anonymous):
        if function_name(expression) in AGGREGATE_NAMES.get(type(engine), ()) or _is_called_as_aggregate(expression):
            return True
        return False if _is_scalar(expression, engine) else None
    if isinstance(expression, exp.Any) and isinstance(engine, Spark):
        return not isinstance(expression.parent, exp.Like | exp.ILike)  # in `like any (…)`, it is no function
    return isinstance(expression, exp.AggFunc)


def is_windowed(node: exp.Expr) -> bool:
    """Return whether an expression is the function of a window."""
    while isinstance(node.parent, exp.Filter | exp.IgnoreNulls | exp.RespectNulls | exp.WithinGroup):
        node = node.parent
    return isinstance(node.parent, exp.Window) and node.arg_key == "this"


def is_method(dot: exp.Dot, scope: Scope) -> bool:
    """Return whether `x.f()` is a function of the value `x`; otherwise `x` is a schema."""
    parts = list(dot.this.walk())
    identifiers = [part for part in parts if isinstance(part, exp.Identifier)]
    is_path = all(isinstance(part, exp.Identifier | exp.Dot) for part in parts)
    first = scope.names.table_key(identifiers[0]) if identifiers else ""
    return not is_path or (scope.names.functions_follow_columns and means(first, scope))


def call_of(dot: exp.Dot, dialect: str) -> exp.Expr:
    """Return `f(x, y)` for `x.f(y)`; after a dot, sqlglot recognizes no function and has identifiers for columns."""
    arguments = [argument.sql(dialect) for argument in (dot.this, *dot.expression.expressions)]
    return exp.maybe_parse(f"{dot.expression.name}({', '.join(arguments)})", dialect=dialect)


def function_name(function: exp.Anonymous) -> str:
    """Return the name of a function that sqlglot does not know, with its schema if it has one."""
    parent = function.parent
    is_qualified = isinstance(parent, exp.Dot) and function.arg_key == "expression"
    schema = [part.name.lower() for part in parent.this.find_all(exp.Identifier)] if is_qualified and parent else []
    return ".".join([*schema, function.name.lower()])


def _is_called_as_aggregate(function: exp.Anonymous) -> bool:
    """Return whether a function is called in a way in which only aggregates can be, such as `f(distinct x)`."""
    is_filtered = isinstance(function.parent, exp.Filter | exp.WithinGroup) and function.arg_key == "this"
    return is_filtered or any(isinstance(argument, exp.Distinct | exp.Order) for argument in function.expressions)


def _is_scalar(function: exp.Anonymous, engine: Dialect) -> bool:
    """Return whether a function that sqlglot does not know certainly computes one value from one row."""
    name = function_name(function).removesuffix("_")
    return name in SCALARS or name in SCALAR_NAMES.get(type(engine), ())


def _no_paren_function(column: exp.Column, scope: Scope) -> ColumnLineage:
    """Return the lineage of a word that is a function without brackets unless there is a column of that name."""
    key = scope.names.table_key(column.this)
    if not scope.names.no_paren_functions_may_be_columns or not means(key, scope):
        return CONSTANT
    return UNKNOWN if is_function(column, scope) else unqualified(key, scope)


def date_part(column: exp.Column, scope: Scope) -> ColumnLineage | None:
    """Return the lineage of a name that may be a keyword, as in `trunc(day, month)`; None if it must be a column."""
    function, key = column.parent, scope.names.table_key(column.this)
    is_argument = isinstance(function, exp.Anonymous) and len(function.expressions) > 1 and len(column.parts) == 1
    if not is_argument or column.this.args.get("quoted") or not scope.names.is_date_part(column.name):
        return None
    return UNKNOWN if means(key, scope) else CONSTANT


def is_lost_unit(unit: exp.Var, expression: exp.Expr, scope: Scope) -> bool:
    """Return whether sqlglot may have mistaken a column for the unit of a function."""
    if isinstance(expression, exp.Interval | exp.WeekStart) or unit.name.upper() in DATE_PARTS | ABBREVIATED:
        return False
    return means(scope.names.stored(unit.name), scope) or means(unit.name.lower(), scope)
