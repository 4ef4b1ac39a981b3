"""The names in lineage of what lies in Snowflake: part of the recording's expected result."""

from typing import Any

CONNECTION: dict[str, Any] = {"account": "myorg-prod"}
NAMESPACE = "snowflake://myorg-prod"
# Attributes of the database, on the span of each node.
ATTRIBUTES: dict[str, str | int] = {"db.system.name": "snowflake", "server.address": "myorg-prod"}
# Names of tables in other tools, and the catalog of `daily_revenue`, where the warehouse has them.
OTHER_NAMES: dict[str, dict[str, str]] = {
    "orders": {"namespace": "snowflake://myorg-prod", "name": "analytics.public.orders", "type": "TABLE"}
}
CATALOG: dict[str, str] = {}


def table(name: str) -> str:
    """Return the dataset name of a table of the recorded project."""
    return f"ANALYTICS.PUBLIC.{name.upper()}"


def column(name: str) -> str:
    """Return a column's name as the warehouse has it."""
    return name.upper()
