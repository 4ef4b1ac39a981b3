"""The names in lineage of what lies in DuckDB: part of the recording's expected result."""

from typing import Any

CONNECTION: dict[str, Any] = {"path": "/local/warehouse.duckdb"}
NAMESPACE = "duckdb:///local/warehouse.duckdb"


def table(name: str) -> str:
    """Return the dataset name of a table of the recorded project."""
    return f"warehouse.main.{name}"


def column(name: str) -> str:
    """Return a column's name as the warehouse has it."""
    return name
