"""The compute target: Redshift. What lineage and tracing need to know of it."""

from __future__ import annotations

from .warehouse import Connection, Warehouse


def _namespace(connection: Connection) -> str:
    # https://openlineage.io/docs/spec/naming#redshift: redshift://{cluster}.{region}:{port}.
    # The host of a cluster reads cluster.id.region.redshift.amazonaws.com.
    host, port = str(connection["host"]), connection.get("port") or 5439
    labels = host.split(".")
    if host.endswith(".redshift.amazonaws.com") and len(labels) >= 6:
        host = f"{labels[0]}.{labels[2]}"
    return f"redshift://{host}:{port}"


TARGET = Warehouse(
    adapter="redshift",
    db_system="aws.redshift",
    dialect="redshift",
    connection_keys=("host", "port"),
    namespace=_namespace,
)
