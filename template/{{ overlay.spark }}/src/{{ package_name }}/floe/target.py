"""The compute target, Spark: the facts that lineage and tracing need."""

from __future__ import annotations

from .warehouse import Connection, Warehouse


def _namespace(connection: Connection) -> str:
    # The specification names Spark's tables by their storage, which dbt does not know. This is dbt-ol's name.
    return f"spark://{_address(connection)}"


def _alternative_names(connection: Connection, name: str) -> list[tuple[str, str]]:
    # https://openlineage.io/docs/spec/naming#hive: a Thrift server speaks HiveServer2's protocol, so Hive clients
    # use hive://{host}:{port} for its tables.
    return [(f"hive://{_address(connection)}", name)] if connection.get("method") == "thrift" else []


def _address(connection: Connection) -> str:
    return f"{connection['host']}:{connection.get('port') or 10000}"


TARGET = Warehouse(
    adapter="spark",
    db_system="spark",
    dialect="spark",
    format_key="file_format",
    connection_keys=("host", "port", "method"),
    namespace=_namespace,
    # A session catalog has schemas but no databases.
    parts=("schema", "identifier"),
    alternative_names=_alternative_names,
)
