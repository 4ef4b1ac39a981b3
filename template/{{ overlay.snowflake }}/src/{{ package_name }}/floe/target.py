"""The compute target: Snowflake. What lineage and tracing need to know of it."""

from __future__ import annotations

from .warehouse import Connection, Warehouse


def _namespace(connection: Connection) -> str:
    # https://openlineage.io/docs/spec/naming#snowflake: snowflake://{organization}-{account}
    return f"snowflake://{connection['account']}"


TARGET = Warehouse(
    adapter="snowflake",
    db_system="snowflake",
    dialect="snowflake",
    connection_keys=("account",),
    namespace=_namespace,
)
