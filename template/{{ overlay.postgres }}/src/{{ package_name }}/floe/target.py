"""The compute target, PostgreSQL: the facts that lineage and tracing need."""

from __future__ import annotations

from .warehouse import Connection, Warehouse


def _namespace(connection: Connection) -> str:
    # https://openlineage.io/docs/spec/naming#postgres: postgres://{host}:{port}, always with the port.
    return f"postgres://{connection['host']}:{connection.get('port') or 5432}"


TARGET = Warehouse(
    adapter="postgres",
    db_system="postgresql",
    dialect="postgres",
    connection_keys=("host", "port"),
    namespace=_namespace,
)
