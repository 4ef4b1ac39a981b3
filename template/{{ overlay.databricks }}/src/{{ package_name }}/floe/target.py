"""The compute target, Databricks: the facts that lineage and tracing need."""

from __future__ import annotations

from .warehouse import Connection, Warehouse


def _namespace(connection: Connection) -> str:
    # The specification does not cover Databricks. dbt-ol and OpenLineage's Spark integration use the workspace's host.
    return f"databricks://{_host(connection)}"


def _alternative_names(connection: Connection, name: str) -> list[tuple[str, str]]:
    # Tools that read Unity Catalog itself use this name for its tables. The Hive metastore is not part of the catalog.
    return [] if name.startswith("hive_metastore.") else [(f"unitycatalog://{_host(connection)}", name)]


def _host(connection: Connection) -> str:
    return str(connection["host"]).removeprefix("https://").rstrip("/")


TARGET = Warehouse(
    adapter="databricks",
    db_system="databricks",
    dialect="databricks",
    connection_keys=("host",),
    namespace=_namespace,
    alternative_names=_alternative_names,
    format_key="file_format",
    catalog="unity",
)
