"""The column reader's data types, compared with those of an engine's result."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from pipeline.floe.lineage.columns import TableColumns, read_query

from tests.sql.oracle import EngineRefusalError

COMMON = [
    *("char(3)", "varchar(10)", "decimal(10, 2)", "decimal", "int", "integer", "bigint", "smallint", "float", "double"),
    *("date", "timestamp", "boolean"),
]
POSTGRES_AND_DUCKDB = [
    *("char", "varchar", "text", "numeric", "numeric(5)", "int4", "int8", "float4", "real", "timestamptz"),
    *("timestamp(3)", "time", "timetz", "json", "varchar[]", "int[]", "date[]", "uuid", "interval", "bit", "bit(3)"),
]
# The types that are tried, in the words of each dialect.
TYPES = {
    "duckdb": [
        *COMMON,
        *POSTGRES_AND_DUCKDB,
        *("hugeint", "tinyint", "utinyint", "timestamp_s", "timestamp_ms", "timestamp_ns", "datetime", "string"),
        *("blob", "int[][]", "int[3]", "struct(a int)", "map(int, int)", "enum('a', 'b')", "varchar(3)[]"),
    ],
    "postgres": [
        *COMMON,
        *POSTGRES_AND_DUCKDB,
        *("name", '"char"', "bpchar", "character varying(5)", "double precision", "float(10)", "float8"),
        *("timestamp with time zone", "timestamptz(2)", "time(2)", "jsonb", "bytea", "varbit", "varbit(3)"),
        *("numeric(10, 2)[]", "interval day", "inet", "oid", "money", "int4range", "xml", "varchar(3)[]"),
    ],
    "spark": [
        *COMMON,
        *("string", "long", "short", "byte", "tinyint", "timestamp_ntz", "binary", "array<int>", "map<string, int>"),
        *("struct<a: int>",),
    ],
}
EXPRESSIONS = [
    *("c", "(c)", "cast(null as {type})", "c is null", "c = c", "not c = c", "c in (c)"),
    *(f"{function}(c)" for function in ("min", "max", "sum", "avg", "count", "any_value", "first", "last", "mode")),
    *("max(distinct c)", "max(c) filter (where true)", "max(max(c)) over ()", "coalesce(c, c)", "count(*)"),
]


class TypedDatabase(Protocol):
    """An engine that says the types of a query's columns."""

    def types(self, sql: str) -> list[str]:
        """Return the types of the columns of a query.

        Raises:
            EngineRefusalError: It cannot be run.
        """


def stated(dialect: str, database: TypedDatabase) -> Iterator[tuple[str, str, str]]:
    """Yield an expression over a type, the type that the reader states, as the engine calls it, and the engine's."""
    for data_type in TYPES[dialect]:
        try:
            (own,) = database.types(f"select cast(null as {data_type}) as c")
        except EngineRefusalError:
            continue
        for expression in EXPRESSIONS:
            sql = f"select {expression.format(type=data_type)} as r from"
            query = read_query(f"{sql} t", dialect, {"t": TableColumns({"c": own})})
            if query.columns["r"].type is None:
                continue
            try:
                (real,) = database.types(f"{sql} (select cast(null as {data_type}) as c) t")
            except EngineRefusalError:
                continue
            (name,) = database.types(f"select cast(null as {query.columns['r'].type}) as r")
            yield f"{expression} of {data_type}", name, real
