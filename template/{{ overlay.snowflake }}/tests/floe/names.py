"""The names in lineage of what lies in Snowflake: part of the recording's expected result."""

from typing import Any

CONNECTION: dict[str, Any] = {"account": "myorg-prod"}
NAMESPACE = "snowflake://myorg-prod"


def table(name: str) -> str:
    """Return the dataset name of a table of the recorded project."""
    return f"ANALYTICS.PUBLIC.{name.upper()}"


def column(name: str) -> str:
    """Return a column's name as the warehouse has it."""
    return name.upper()
