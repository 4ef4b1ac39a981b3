"""The compute target, Snowflake: the facts that lineage and tracing need."""

from __future__ import annotations

from .warehouse import Connection, Warehouse


def _namespace(connection: Connection) -> str:
    # https://openlineage.io/docs/spec/naming#snowflake: snowflake://{organization}-{account}, or for the older
    # locators snowflake://{locator}.{region}.{cloud}, with the same defaults as OpenLineage's own integrations.
    account, *where = str(connection["account"]).removesuffix(".privatelink").split(".")
    if "-" in account:
        return f"snowflake://{account}"
    region, cloud, *_ = (*where, *("us-west-1", "aws")[len(where) :])
    return f"snowflake://{account}.{region}.{cloud}"


def _alternative_names(connection: Connection, name: str) -> list[tuple[str, str]]:
    # dbt-ol writes names as the project does, usually in lower case.
    return [(_namespace(connection), name.lower())] if name != name.lower() else []


TARGET = Warehouse(
    adapter="snowflake",
    db_system="snowflake",
    dialect="snowflake",
    connection_keys=("account",),
    namespace=_namespace,
    fold=str.upper,
    alternative_names=_alternative_names,
    rows_of_create=1,  # the result row "Table … successfully created."
)
