"""The data type of an expression, if the engine leaves no doubt about it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from sqlglot import exp
from sqlglot.dialects.bigquery import BigQuery
from sqlglot.dialects.dialect import Dialect
from sqlglot.dialects.duckdb import DuckDB
from sqlglot.dialects.redshift import Redshift
from sqlglot.dialects.snowflake import Snowflake
from sqlglot.errors import SqlglotError

from .model import ColumnLineage

KIND = exp.DataType.Type
PRECISION = re.compile(r"\((\d+), (\d+)\)")
# Types for which `min` and `max` return the same type in every engine. For others, PostgreSQL returns text or bpchar,
# or drops the parameters.
PLAIN = {KIND.SMALLINT, KIND.INT, KIND.BIGINT, KIND.FLOAT, KIND.DOUBLE, KIND.DATE, KIND.TIMESTAMP, KIND.TIMESTAMPTZ}
TEXTS = {KIND.TEXT, KIND.VARCHAR, KIND.NVARCHAR, KIND.BPCHAR, KIND.CHAR, KIND.NCHAR, KIND.NAME}


def proven_type(expression: exp.Expr, parts: Sequence[ColumnLineage], dialect: str) -> str | None:
    """Return the type of a column with the values of an expression made of `parts`, or None if it is not certain."""
    if isinstance(expression, exp.Cast):
        return _cast_type(expression.args["to"], dialect)
    if isinstance(expression, exp.Predicate | exp.Connector | exp.Not):
        return exp.DataType.build("boolean").sql(dialect)
    if isinstance(expression, exp.Min | exp.Max) and len(parts) == 1 and parts[0].type:
        return parts[0].type if _has_extremes_of_its_own(parts[0].type, dialect) else None
    return None


def _cast_type(target: exp.Expr, dialect: str) -> str | None:
    if not isinstance(target, exp.DataType):
        return None
    match Dialect.get_or_raise(dialect):
        case Redshift() if target.this in TEXTS:
            is_certain = bool(target.expressions)  # without a length, the engine chooses it
        case BigQuery():
            is_certain = not target.expressions or bool(target.args.get("nested"))  # no length or precision is stored
        case Snowflake():
            is_certain = target.this is not KIND.TIMESTAMP  # each session sets which of three types it is
        case DuckDB():
            is_certain = not (target.is_type(*exp.DataType.TEMPORAL_TYPES) and target.expressions)
        case _:
            is_certain = True
    # Without a space, as the engines and their catalogs write it, so that one type has one spelling.
    return PRECISION.sub(r"(\1,\2)", target.sql(dialect)) if is_certain else None


def _has_extremes_of_its_own(text: str, dialect: str) -> bool:
    """Return whether `min` and `max` of a type return the same type."""
    engine = Dialect.get_or_raise(dialect)
    if isinstance(engine, DuckDB):
        return True
    try:
        data_type = exp.DataType.build(text, dialect=dialect)
    except SqlglotError:
        return False
    is_text = data_type.this is KIND.TEXT and not isinstance(engine, Redshift)
    return (is_text or data_type.this in PLAIN) and not data_type.expressions
