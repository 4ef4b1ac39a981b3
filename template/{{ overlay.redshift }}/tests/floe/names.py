"""The names in lineage of what lies in Redshift: part of the recording's expected result."""

from typing import Any

CONNECTION: dict[str, Any] = {"host": "shop.c1x2.eu-west-1.redshift.amazonaws.com", "port": 5439}
NAMESPACE = "redshift://shop.eu-west-1:5439"
# Attributes of the database, on the span of each node.
ATTRIBUTES: dict[str, str | int] = {
    "db.system.name": "aws.redshift",
    "server.address": "shop.c1x2.eu-west-1.redshift.amazonaws.com",
    "server.port": 5439,
}
# Names of tables in other tools, and the catalog of `daily_revenue`, where the warehouse has them.
OTHER_NAMES: dict[str, dict[str, str]] = {
    "orders": {
        "namespace": "redshift://shop.c1x2.eu-west-1.redshift.amazonaws.com:5439",
        "name": "postgres.public.orders",
        "type": "TABLE",
    }
}
CATALOG: dict[str, str] = {}


def table(name: str) -> str:
    """Return the dataset name of a table of the recorded project."""
    return f"postgres.public.{name}"


def column(name: str) -> str:
    """Return a column's name as the warehouse has it."""
    return name
