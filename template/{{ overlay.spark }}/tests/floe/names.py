"""The names in lineage of what lies in Spark: part of the recording's expected result."""

from typing import Any

CONNECTION: dict[str, Any] = {"host": "thrift.example.com", "port": 10000, "method": "thrift"}
NAMESPACE = "spark://thrift.example.com:10000"


def table(name: str) -> str:
    """Return the dataset name of a table of the recorded project."""
    return f"default.{name}"


def column(name: str) -> str:
    """Return a column's name as the warehouse has it."""
    return name
