"""Tests of words that are columns in one engine and keywords or functions in another, if the table has the column."""

from __future__ import annotations

import pytest
from pipeline.floe.lineage.columns import TableColumns, fold, read_query
from pipeline.floe.lineage.columns.names import Names
from pipeline.floe.lineage.columns.parsing import UNIT_FUNCTIONS, parsed
from sqlglot import exp
from sqlglot.errors import SqlglotError

from tests.sql.databases import DuckDB

COLUMNS = ("ts", "d", "month", "week", "day", "grain", "current_date", "current_user", "user", "localtime")
# Functions whose first argument is a keyword. In the dialects that are not here, others have keywords too.
KEYWORDS = {
    "duckdb": [],
    "postgres": [],
    "spark": ["date_add", "date_diff", "dateadd", "datediff", "timestampadd", "timestampdiff"],
    "databricks": ["date_add", "date_diff", "dateadd", "datediff", "timestampadd", "timestampdiff"],
    "redshift": ["date_add", "date_diff", "date_part", "dateadd", "datediff"],
}


def origins(expression: str, dialect: str, columns: tuple[str, ...] = COLUMNS) -> list[str] | None:
    """Return the columns that a value is made of, or None if that is said not to be known."""
    table = TableColumns(dict.fromkeys(fold(column, dialect) for column in columns))
    query = read_query(f"select {expression} as x from t", dialect, {"t": table})
    assert None is query.problem
    (column,) = query.columns.values()
    return sorted(origin.column.lower() for origin in column.origins) if column.known else None


@pytest.mark.parametrize(
    ("dialects", "expression", "expected"),
    [
        # A unit that the engine's grammar has as a keyword.
        ("redshift", "date_part(month, ts)", ["ts"]),
        ("redshift bigquery duckdb postgres spark", "extract(month from ts)", ["ts"]),
        ("redshift snowflake spark databricks", "dateadd(month, 1, ts)", ["ts"]),
        ("redshift snowflake spark databricks", "datediff(week, ts, d)", ["d", "ts"]),
        ("snowflake spark databricks", "timestampadd(month, 1, ts)", ["ts"]),
        ("snowflake", "date_trunc(month, ts)", ["ts"]),
        ("snowflake", "last_day(ts, month)", ["ts"]),
        ("bigquery", "date_trunc(d, month)", ["d"]),
        ("bigquery", "timestamp_trunc(ts, week(monday))", ["ts"]),
        ("bigquery", "generate_date_array(d, ts, interval 1 month)", ["d", "ts"]),
        ("bigquery", "date_diff(d, ts, week)", ["d", "ts"]),
        # A unit that is any expression, and so a column.
        ("duckdb postgres spark databricks", "date_trunc(month, ts)", ["month", "ts"]),
        ("duckdb postgres spark databricks redshift", "date_trunc('month', ts)", ["ts"]),
        ("duckdb postgres spark databricks redshift", "date_trunc(grain, ts)", ["grain", "ts"]),
        ("duckdb postgres spark databricks redshift", "date_trunc(lower(grain), ts)", ["grain", "ts"]),
        ("duckdb postgres spark databricks redshift", "date_trunc(t.grain, ts)", ["grain", "ts"]),
        ("duckdb postgres", "date_part(month, ts)", ["month", "ts"]),
        ("duckdb", "date_diff(month, ts, d)", ["d", "month", "ts"]),
        ("duckdb", "datetrunc(month, ts)", ["month", "ts"]),
        ("duckdb", "time_bucket(interval 1 month, ts, d)", ["d", "ts"]),
        ("postgres", "date_bin('1 day', ts, d)", ["d", "ts"]),
        ("postgres", "date_add(ts, interval '1 day', grain)", ["grain", "ts"]),
        ("postgres", "datediff('day', ts, d)", ["d", "ts"]),  # of the owner's own
        ("spark databricks", "trunc(ts, month)", ["month", "ts"]),
        ("spark databricks", "trunc(ts, 'month')", ["ts"]),
        # A function that sqlglot does not know, where the engine may have a keyword.
        ("snowflake", "trunc(ts, month)", None),
        ("redshift", "datepart(month, ts)", None),
        ("redshift", "date_trunc(month, ts)", None),
        ("redshift", "timestampdiff(month, ts, d)", None),
        ("snowflake bigquery redshift", "my_own(ts, week)", None),
        ("snowflake bigquery redshift", "my_own(ts, t.week)", ["ts", "week"]),
        ("snowflake bigquery redshift", "my_own(ts, grain)", ["grain", "ts"]),
        ("duckdb postgres spark databricks", "my_own(ts, week)", ["ts", "week"]),
        ("snowflake", "date_trunc(grain, ts)", None),
        # Functions without brackets.
        ("duckdb spark databricks", "current_date", ["current_date"]),
        ("postgres snowflake redshift", "current_date", []),
        ("bigquery", "current_date", None),
        ("duckdb spark databricks snowflake bigquery", "current_date()", []),
        ("duckdb spark databricks snowflake bigquery", "user", ["user"]),
        ("postgres redshift", "user", []),
        ("duckdb spark databricks bigquery", "current_user", ["current_user"]),
        ("postgres snowflake redshift", "current_user", []),
        ("duckdb spark databricks bigquery", "localtime", ["localtime"]),
        ("postgres snowflake redshift", "localtime", []),
        ("duckdb postgres spark databricks snowflake bigquery redshift", "t.current_date", ["current_date"]),
        ("duckdb postgres redshift", '"current_date"', ["current_date"]),
        ("snowflake", '"CURRENT_DATE"', ["current_date"]),
        ("spark databricks bigquery", "`current_date`", ["current_date"]),
        # What counts rows, and what counts those without a null.
        ("duckdb postgres spark databricks snowflake bigquery redshift", "count(*)", []),
        ("duckdb postgres", "count(t.*)", []),
        ("duckdb postgres bigquery", "count(t)", []),
        ("snowflake spark databricks", "count(t.*)", sorted(COLUMNS)),
        ("bigquery redshift", "count(t.*)", None),
        ("snowflake", "count(* exclude (ts))", None),
        # A collation is no column.
        ("postgres", 'd collate "grain"', ["d"]),
        ("duckdb", "d collate day", ["d"]),
    ],
)
def test_meaning(dialects: str, expression: str, expected: list[str] | None) -> None:
    """A word is what the engine takes it for, and where that is not certain the value is left out."""
    assert dict.fromkeys(dialects.split(), expected) == {
        dialect: origins(expression, dialect) for dialect in dialects.split()
    }


@pytest.mark.parametrize(
    ("dialect", "expression"),
    [("snowflake", "trunc(ts, month)"), ("redshift", "datepart(month, ts)"), ("duckdb", "current_date")],
)
def test_no_such_column(dialect: str, expression: str) -> None:
    """Where the table has no such column, the word is a keyword or a function, and nothing is left out."""
    assert origins(expression, dialect, ("ts",)) == (["ts"] if "ts" in expression else [])


@pytest.mark.parametrize("dialect", KEYWORDS)
def test_dropped_arguments(dialect: str) -> None:
    """Of the functions of dates, only the keywords are dropped that the engine's own grammar has."""
    dropped = {name: positions for name in UNIT_FUNCTIONS | {"trunc"} if (positions := _dropped(name, dialect))}

    assert dict.fromkeys(KEYWORDS[dialect], "0") == dropped


def _dropped(function: str, dialect: str) -> str:
    """Return the positions of the arguments that sqlglot does not keep as columns."""
    dropped = set()
    for count in (2, 3):
        arguments = [f"c{position}" for position in range(count)]
        try:
            tree = parsed(f"select {function}({', '.join(arguments)})", Names(dialect))
        except SqlglotError:
            continue
        columns = {column.name for column in tree.find_all(exp.Column)}
        dropped |= {argument[1:] for argument in arguments if argument not in columns}
    return "".join(sorted(dropped))


@pytest.mark.parametrize("word", sorted(Names("duckdb").no_paren_functions))
def test_duckdb(word: str) -> None:
    """On DuckDB a column hides a function of its name, as the reader says."""
    database = DuckDB()

    assert [(42,)] == database.rows(f'select {word} from (select 42 as "{word}") t')
    assert [word] == origins(word, "duckdb", (word,))
    assert [(42,)] != database.rows(f"select {word} from (select 42 as x) t")
    assert [] == origins(word, "duckdb", ("x",))
