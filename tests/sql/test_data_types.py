"""Tests of the column reader's data types for values of every type, on DuckDB itself."""

from __future__ import annotations

import pytest
from pipeline.floe.lineage.columns import TableColumns, read_query

from tests.sql.databases import DuckDB
from tests.sql.types_of import stated


def test_duckdb() -> None:
    """Whatever type is stated, DuckDB's own table has it."""
    types = list(stated("duckdb", DuckDB()))

    assert [] == [wrong for wrong in types if wrong[1] != wrong[2]]
    assert 200 <= len(types)


@pytest.mark.parametrize(
    ("dialect", "expression", "column", "expected"),
    [
        ("postgres", "max(x)", "character varying(10)", None),
        ("postgres", "max(x)", "numeric(10,2)", None),
        ("postgres", "max(x)", "text", "text"),
        ("duckdb", "max(x)", "DECIMAL(16,2)", "DECIMAL(16,2)"),
        ("redshift", "x::text", "text", None),
        ("redshift", "x::varchar", "text", None),
        ("redshift", "x::varchar(10)", "text", "VARCHAR(10)"),
        ("redshift", "max(x)", "varchar(10)", None),
        ("redshift", "max(x)", "bigint", "bigint"),
        ("bigquery", "cast(x as numeric(10, 2))", "STRING", None),
        ("bigquery", "cast(x as int64)", "STRING", "INT64"),
        ("snowflake", "x::timestamp", "TEXT", None),
        ("snowflake", "x::timestamp_ntz", "TEXT", "TIMESTAMPNTZ"),
        ("databricks", "cast(x as varchar(10))", "string", "STRING"),
        ("spark", "cast(x as varchar(10))", "string", "STRING"),
    ],
)
def test_manuals(dialect: str, expression: str, column: str, expected: str | None) -> None:
    """A type is stated as the engine's manual has it, and left out where that depends on the engine's settings."""
    name = "X" if dialect == "snowflake" else "x"
    query = read_query(f"select {expression} as x from t", dialect, {"t": TableColumns({name: column})})

    assert expected == query.columns[name].type


@pytest.mark.parametrize(
    ("dialect", "column", "source"),
    [
        ("duckdb", "VARCHAR[]", "t, unnest(xs) as u (x)"),
        ("duckdb", "VARCHAR[]", "t left join unnest(xs) as u (x) on true"),
        ("duckdb", "VARCHAR", "t, unnest(cast(xs as varchar[])) as u (x)"),
        ("postgres", "text[]", "t, unnest(xs) as u (x)"),
        ("postgres", "text[]", "t, unnest(xs, xs) as u (x, y)"),
        ("postgres", "text[]", "t, unnest(xs) with ordinality as u (x, n)"),
        ("postgres", "text[]", "t cross join lateral unnest(xs) as u (x)"),
        ("spark", "array<string>", "t lateral view explode(xs) u as x"),
        ("bigquery", "ARRAY<STRING>", "t, unnest(xs) as x"),
    ],
)
def test_elements(dialect: str, column: str, source: str) -> None:
    """The element of a list does not have the list's type."""
    query = read_query(f"select x from {source}", dialect, {"t": TableColumns({"xs": column})})

    assert query.columns["x"].known
    assert None is query.columns["x"].type


def test_convert() -> None:
    """A function that sqlglot takes for a cast without a type costs the query nothing."""
    query = read_query("select convert(a, b) as x from t", "postgres", {"t": TableColumns({"a": None, "b": None})})

    assert None is query.problem
    assert {"x"} == set(query.columns)
