"""The compute target, BigQuery: the facts that lineage and tracing need."""

from __future__ import annotations

from .warehouse import Warehouse

TARGET = Warehouse(
    adapter="bigquery",
    db_system="bigquery",
    dialect="bigquery",
    connection_keys=(),
    # https://openlineage.io/docs/spec/naming#bigquery: the namespace is the constant `bigquery`.
    namespace=lambda _: "bigquery",
    recreates_seeds=True,
)
