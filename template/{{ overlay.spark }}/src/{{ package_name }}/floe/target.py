"""The compute target: Spark. What lineage and tracing need to know of it."""

from __future__ import annotations

from .warehouse import Connection, Warehouse


def _namespace(connection: Connection) -> str:
    # The specification names Spark's tables by their storage, which dbt does not know; this is dbt-ol's name.
    return f"spark://{connection['host']}:{connection.get('port') or 10000}"


TARGET = Warehouse(
    adapter="spark",
    db_system="spark",
    dialect="spark",
    connection_keys=("host", "port"),
    namespace=_namespace,
    # A session catalog has schemas only.
    parts=("schema", "identifier"),
)
