"""The names in lineage of what lies in PostgreSQL: part of the recording's expected result."""

from typing import Any

CONNECTION: dict[str, Any] = {"host": "db.example.com", "port": 5432}
NAMESPACE = "postgres://db.example.com:5432"
# Attributes of the database, on the span of each node.
ATTRIBUTES: dict[str, str | int] = {
    "db.system.name": "postgresql",
    "server.address": "db.example.com",
    "server.port": 5432,
}
# Names of tables in other tools, and the catalog of `daily_revenue`, where the warehouse has them.
OTHER_NAMES: dict[str, dict[str, str]] = {}
CATALOG: dict[str, str] = {}


def table(name: str) -> str:
    """Return the dataset name of a table of the recorded project."""
    return f"postgres.public.{name}"


def column(name: str) -> str:
    """Return a column's name as the warehouse has it."""
    return name
