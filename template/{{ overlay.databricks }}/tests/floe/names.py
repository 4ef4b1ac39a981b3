"""The names in lineage of what lies in Databricks: part of the recording's expected result."""

from typing import Any

CONNECTION: dict[str, Any] = {"host": "adb-1.2.azuredatabricks.net"}
NAMESPACE = "databricks://adb-1.2.azuredatabricks.net"
# Attributes of the database, on the span of each node.
ATTRIBUTES: dict[str, str | int] = {"db.system.name": "databricks", "server.address": "adb-1.2.azuredatabricks.net"}
# Names of tables in other tools, and the catalog of `daily_revenue`, where the warehouse has them.
OTHER_NAMES: dict[str, dict[str, str]] = {
    "daily_revenue": {
        "namespace": "unitycatalog://adb-1.2.azuredatabricks.net",
        "name": "main.default.daily_revenue",
        "type": "TABLE",
    }
}
CATALOG: dict[str, str] = {"framework": "iceberg", "type": "unity", "name": "main", "source": "databricks"}


def table(name: str) -> str:
    """Return the dataset name of a table of the recorded project."""
    return f"hive_metastore.default.{name}"


def column(name: str) -> str:
    """Return a column's name as the warehouse has it."""
    return name
