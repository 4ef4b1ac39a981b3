"""The compute target: BigQuery. What lineage and tracing need to know of it."""

from __future__ import annotations

from .warehouse import Warehouse

TARGET = Warehouse(
    adapter="bigquery",
    db_system="bigquery",
    dialect="bigquery",
    connection_keys=(),
    # https://openlineage.io/docs/spec/naming#bigquery: the namespace is the word itself.
    namespace=lambda _: "bigquery",
)
