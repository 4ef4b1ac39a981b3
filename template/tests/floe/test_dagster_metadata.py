"""What Dagster's catalog shows of a table that dbt has built: only what is certain."""

from __future__ import annotations

from typing import Any

import dagster as dg

from .package import TableColumns, read_query, table_metadata

SQL = "select o.id, o.cents / 100 as euros, current_date as today from db.raw as o where o.status = 'paid'"
RAW = TableColumns({"id": "INTEGER", "cents": "BIGINT", "status": "VARCHAR"})
BUILT = TableColumns({"id": "INTEGER", "euros": None, "today": None})
DOCUMENTED = dg.TableSchema([dg.TableColumn("ID", "?", description="The key", tags={"floe/sensitivity": "high"})])
SPEC = dg.AssetSpec("orders", metadata={"dagster/column_schema": DOCUMENTED})
UPSTREAM = {"db.raw": dg.AssetKey("raw")}


def metadata(table: TableColumns, row_count: int | None = None) -> dict[str, Any]:
    """Return the entries of the table `orders` with these columns."""
    return table_metadata(SPEC, table, read_query(SQL, "duckdb", {"db.raw": RAW}), UPSTREAM, row_count)


def test_schema() -> None:
    """The columns are those of the table, with their types, and with the descriptions and tags of the project."""
    first, euros, _ = metadata(BUILT)["dagster/column_schema"].columns

    assert (first.name, first.type, first.description) == ("id", "INTEGER", "The key")
    assert first.tags == {"floe/sensitivity": "high"}
    assert (euros.name, euros.type) == ("euros", "?")


def test_incomplete() -> None:
    """A table whose columns are not all known keeps the documented ones."""
    assert "dagster/column_schema" not in metadata(TableColumns({"id": "INTEGER"}, complete=False))


def test_lineage() -> None:
    """A column has the columns of which it is made, without the one that only decides on the rows."""
    deps = metadata(BUILT)["dagster/column_lineage"].deps_by_column

    assert deps == {
        "id": [dg.TableColumnDep(dg.AssetKey("raw"), "id")],
        "euros": [dg.TableColumnDep(dg.AssetKey("raw"), "cents")],
    }


def test_rows() -> None:
    """The number of rows is shown if the engine has counted them, also zero."""
    assert metadata(BUILT, 0)["dagster/row_count"] == 0
    assert "dagster/row_count" not in metadata(BUILT)
