"""The names in lineage of what lies in Redshift: part of the recording's expected result."""

from typing import Any

CONNECTION: dict[str, Any] = {"host": "shop.c1x2.eu-west-1.redshift.amazonaws.com", "port": 5439}
NAMESPACE = "redshift://shop.eu-west-1:5439"


def table(name: str) -> str:
    """Return the dataset name of a table of the recorded project."""
    return f"postgres.public.{name}"


def column(name: str) -> str:
    """Return a column's name as the warehouse has it."""
    return name
