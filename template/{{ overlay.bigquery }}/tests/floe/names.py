"""The names in lineage of what lies in BigQuery: part of the recording's expected result."""

from typing import Any

CONNECTION: dict[str, Any] = {}
NAMESPACE = "bigquery"


def table(name: str) -> str:
    """Return the dataset name of a table of the recorded project."""
    return f"a-project.shop.{name}"


def column(name: str) -> str:
    """Return a column's name as the warehouse has it."""
    return name
