"""Tests that the oracle detects every kind of wrong answer, on DuckDB."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pipeline.floe.lineage.columns import ColumnLineage, Origin, QueryLineage

from tests.sql.databases import duckdb
from tests.sql.oracle import Seen, contradictions, watch
from tests.sql.reading import read

SQL = "select id, upper(note) as note from shop.orders where amount > 5"


@pytest.fixture(scope="module")
def seen() -> Seen:
    """Return what DuckDB shows of a query."""
    with duckdb() as database:
        return watch(database, SQL)


def test_right(seen: Seen) -> None:
    """A right answer is contradicted by nothing."""
    assert [] == list(contradictions(read(SQL, "duckdb"), seen))


@pytest.mark.parametrize(
    ("wrong", "fault"),
    [
        ({"columns": {"id": ColumnLineage()}, "complete": True}, "columns: ['id'], the engine has ['id', 'note']"),
        ({"columns": {"other": ColumnLineage()}, "complete": False}, "other: the engine has only ['id', 'note']"),
        ({"columns": {"id": ColumnLineage()}, "complete": False}, "id: depends on ['shop.orders.id'] too"),
        ({"rows": frozenset()}, "id: depends on ['shop.orders.amount'] too"),
        (
            {
                "columns": {
                    "id": ColumnLineage(frozenset({Origin("shop.orders", "id"), Origin("shop.orders", "status")}))
                }
            }
            | {"complete": False},
            "id: does not depend on ['shop.orders.status']",
        ),
        ({"problem": "no idea"}, "not read: no idea"),
    ],
    ids=["column missing", "column invented", "origin missing", "filter missing", "origin invented", "problem"],
)
def test_wrong(seen: Seen, wrong: dict[str, object], fault: str) -> None:
    """A wrong answer is named."""
    query: QueryLineage = replace(read(SQL, "duckdb"), **wrong)

    assert fault in "\n".join(contradictions(query, seen))
