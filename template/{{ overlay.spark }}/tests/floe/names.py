"""The names in lineage of what lies in Spark: part of the recording's expected result."""

from typing import Any

CONNECTION: dict[str, Any] = {"host": "thrift.example.com", "port": 10000, "method": "thrift"}
NAMESPACE = "spark://thrift.example.com:10000"
# Attributes of the database, on the span of each node.
ATTRIBUTES: dict[str, str | int] = {
    "db.system.name": "spark",
    "server.address": "thrift.example.com",
    "server.port": 10000,
}
# Names of tables in other tools, and the catalog of `daily_revenue`, where the warehouse has them.
OTHER_NAMES: dict[str, dict[str, str]] = {
    "orders": {"namespace": "hive://thrift.example.com:10000", "name": "default.orders", "type": "TABLE"}
}
CATALOG: dict[str, str] = {}


def table(name: str) -> str:
    """Return the dataset name of a table of the recorded project."""
    return f"default.{name}"


def column(name: str) -> str:
    """Return a column's name as the warehouse has it."""
    return name
