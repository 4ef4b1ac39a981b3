"""The meaning of a name in its scope: a column, a field, a row, a function or a keyword."""

from __future__ import annotations

from sqlglot import exp
from sqlglot.dialects.bigquery import BigQuery
from sqlglot.dialects.databricks import Databricks
from sqlglot.dialects.dialect import Dialect
from sqlglot.dialects.duckdb import DuckDB
from sqlglot.dialects.postgres import Postgres
from sqlglot.dialects.redshift import Redshift
from sqlglot.dialects.snowflake import Snowflake
from sqlglot.dialects.spark import Spark

from .model import CONSTANT, UNKNOWN, ColumnLineage
from .names import ABBREVIATED, DATE_PARTS
from .parsing import UNIT_FUNCTIONS
from .relation import NamedColumn, Relation, Scope, Source
from .structures import UNKNOWN_ACCESSES, UNKNOWN_BUILDERS

# Aggregates in the documentation of each engine that sqlglot does not know.
SPARK_AGGREGATES = (
    "bitmap_and_agg count_min_sketch every histogram_numeric hll_sketch_agg hll_union_agg kll_merge_agg_bigint"
    " kll_merge_agg_double kll_merge_agg_float kll_sketch_agg_bigint kll_sketch_agg_double kll_sketch_agg_float mean"
    " measure schema_of_json_agg schema_of_variant_agg some std theta_intersection_agg theta_sketch_agg theta_union_agg"
    " try_avg try_sum tuple_intersection_agg_double tuple_intersection_agg_integer tuple_sketch_agg_double"
    " tuple_sketch_agg_integer tuple_union_agg_double tuple_union_agg_integer"
)
AGGREGATES = {
    BigQuery: "hll_count.init hll_count.merge hll_count.merge_partial kll_quantiles.init_float64"
    " kll_quantiles.init_int64 kll_quantiles.merge_float64 kll_quantiles.merge_int64 kll_quantiles.merge_partial"
    " kll_quantiles.merge_point_float64 kll_quantiles.merge_point_int64 st_centroid_agg st_extent st_union_agg",
    Databricks: SPARK_AGGREGATES,
    DuckDB: "arbitrary arg_max_null arg_max_nulls_last arg_min_null arg_min_nulls_last bitstring_agg combine_aggr"
    " count_star decimal_average entropy favg fsum histogram histogram_exact kahan_sum kurtosis_pop lttb mad mean"
    " product reservoir_quantile sem sum_no_overflow sumkahan variant_group_object",
    Postgres: "every json_agg_strict json_arrayagg json_object_agg_strict json_object_agg_unique"
    " json_object_agg_unique_strict jsonb_agg jsonb_agg_strict jsonb_object_agg_strict jsonb_object_agg_unique"
    " jsonb_object_agg_unique_strict range_agg range_intersect_agg xmlagg",
    Redshift: "hll_combine hll_create_sketch",
    Snowflake: "datasketches_hll datasketches_hll_accumulate datasketches_hll_combine hll_accumulate hll_combine",
    Spark: SPARK_AGGREGATES,
}
AGGREGATE_NAMES: dict[type[Dialect], frozenset[str]] = {
    dialect: frozenset(names.split()) for dialect, names in AGGREGATES.items()
}
# Functions that sqlglot does not know and that certainly compute one value from one row.
SCALARS = UNIT_FUNCTIONS | UNKNOWN_ACCESSES | UNKNOWN_BUILDERS | {"to_json", "to_jsonb", "trunc"}
# Aggregates that return one of the values of their first argument and only compare those of the second.
CHOOSING_AGGREGATES = frozenset({"arg_max_null", "arg_max_nulls_last", "arg_min_null", "arg_min_nulls_last"})


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
        return False if _is_scalar(expression) else None
    if isinstance(expression, exp.Any) and isinstance(engine, Spark):
        return not isinstance(expression.parent, exp.Like | exp.ILike)  # in `like any (…)`, it is no function
    return isinstance(expression, exp.AggFunc)


def is_windowed(node: exp.Expr) -> bool:
    """Return whether an expression is the function of a window."""
    while isinstance(node.parent, exp.Filter | exp.IgnoreNulls | exp.RespectNulls | exp.WithinGroup):
        node = node.parent
    return isinstance(node.parent, exp.Window) and node.arg_key == "this"


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


def _is_scalar(function: exp.Anonymous) -> bool:
    """Return whether a function that sqlglot does not know certainly computes one value from one row."""
    return function_name(function).removesuffix("_") in SCALARS


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
