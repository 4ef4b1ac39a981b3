"""The compute target, Redshift: the facts that lineage and tracing need."""

from __future__ import annotations

from .warehouse import Connection, Warehouse


def _namespace(connection: Connection) -> str:
    # https://openlineage.io/docs/spec/naming#redshift: redshift://{cluster}.{region}:{port}.
    # A cluster's host is cluster.id.region.redshift.amazonaws.com. A workgroup's host is
    # workgroup.account.region.redshift-serverless.amazonaws.com.
    host, port = _address(connection)
    labels = host.split(".")
    if len(labels) >= 6 and labels[3] in {"redshift", "redshift-serverless"}:
        host = f"{labels[0]}.{labels[2]}"
    return f"redshift://{host}:{port}"


def _alternative_names(connection: Connection, name: str) -> list[tuple[str, str]]:
    # dbt-ol uses the host unchanged.
    host, port = _address(connection)
    plain = f"redshift://{host}:{port}"
    return [] if plain == _namespace(connection) else [(plain, name)]


def _address(connection: Connection) -> tuple[str, int]:
    return str(connection["host"]), int(connection.get("port") or 5439)


TARGET = Warehouse(
    adapter="redshift",
    db_system="aws.redshift",
    dialect="redshift",
    connection_keys=("host", "port"),
    namespace=_namespace,
    alternative_names=_alternative_names,
)
