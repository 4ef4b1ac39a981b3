"""The names in lineage of what lies in Databricks: part of the recording's expected result."""

from typing import Any

CONNECTION: dict[str, Any] = {"host": "adb-1.2.azuredatabricks.net"}
NAMESPACE = "databricks://adb-1.2.azuredatabricks.net"


def table(name: str) -> str:
    """Return the dataset name of a table of the recorded project."""
    return f"hive_metastore.default.{name}"


def column(name: str) -> str:
    """Return a column's name as the warehouse has it."""
    return name
