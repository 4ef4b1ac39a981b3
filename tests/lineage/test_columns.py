"""Tests of column lineage against answers that were determined by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from pipeline.floe.lineage.columns import Origin, TableColumns, read_query

FOLDER = Path(__file__).parent / "columns"
CASES: list[dict[str, Any]] = [
    case for file in ("ten.yml", "more.yml") for case in yaml.safe_load((FOLDER / file).read_text())
]


def shown(origins: frozenset[Origin]) -> list[str]:
    """Return origins as the fixtures write them."""
    return sorted(f"{origin.table.rpartition('.')[2]}.{origin.column} {origin.subtype}" for origin in origins)


def table(told: list[str] | str) -> TableColumns:
    """Return a table with the columns that a fixture gives it."""
    return TableColumns({}, complete=False) if told == "unknown" else TableColumns(dict.fromkeys(told))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_case(case: dict[str, Any]) -> None:
    """Each column comes from where a reader of the SQL says that it does, and nothing else is said."""
    query = read_query(case["sql"], case["dialect"], {name: table(told) for name, told in case["tables"].items()})

    assert None is query.problem
    assert {name: sorted(told) for name, told in case["columns"].items()} == {
        name: shown(column.origins) for name, column in query.columns.items() if column.known
    }
    assert case.get("left_out", []) == query.left_out
    assert sorted(case.get("rows", [])) == shown(query.rows)


def test_number() -> None:
    """There are the ten cases of the documentation and at least twenty more, over at least four dialects."""
    assert 30 <= len(CASES)
    assert 4 <= len({case["dialect"] for case in CASES})


def test_no_query() -> None:
    """What is no query, or no SQL, gives a problem and no columns."""
    for sql in ("create table t as select 1", "select from where", ""):
        query = read_query(sql, "duckdb", {})

        assert {} == query.columns
        assert query.problem


def test_types() -> None:
    """A type is told where a cast, an unchanged column or a comparison proves it, and nowhere else."""
    sql = "select id, cast(x as decimal(16, 2)) as x, max(id) as most, id > 1 as large, id + 1 as next from a.b.t"
    query = read_query(sql, "duckdb", {"a.b.t": TableColumns({"id": "INTEGER", "x": "VARCHAR"})})

    expected = {"id": "INTEGER", "x": "DECIMAL(16,2)", "most": "INTEGER", "large": "BOOLEAN", "next": None}
    assert expected == {name: column.type for name, column in query.columns.items()}


def test_unnamed() -> None:
    """A column without a name, which each engine names by its own rule, is left out and its table is incomplete."""
    query = read_query("select id, count(*) from a.b.t group by id", "duckdb", {"a.b.t": TableColumns({"id": None})})

    assert ["id"] == list(query.columns)
    assert not query.complete
