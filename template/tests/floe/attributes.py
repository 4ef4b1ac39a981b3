"""The attributes of each kind of span, and the metrics: edit these lists when you change them in `floe/tracing/`.

They are those of the run in `everything.py`.
"""

from __future__ import annotations

from . import names
from .everything import NOT_NULL, PARTITION, SOURCE, STATEMENT
from .package import settings
from .runs import FINISHED, HAS_UNIT_TEST, INVOCATION_ID, RECORDING, RUN_ID

Attributes = dict[str, str | int]


def namespace(unique_id: str) -> str:
    """Return the database and schema of a node, as far as the warehouse has them."""
    node = {**RECORDING["nodes"], **RECORDING["sources"]}[unique_id]
    return ".".join(part for part in (node["database"], node["schema"]) if part)


def node(unique_id: str, status: str, file: str) -> Attributes:
    """Return the attributes that each node has."""
    return {
        **STEP,
        **names.ATTRIBUTES,
        "dbt.invocation_id": INVOCATION_ID,
        "dbt.unique_id": unique_id,
        "dbt.resource_type": unique_id.partition(".")[0],
        "dbt.status": status,
        "db.namespace": namespace(unique_id),
        "code.file.path": file,
    }


STEP: Attributes = {
    "dagster.run_id": RUN_ID,
    "dagster.job.name": "daily",
    "dagster.retry_number": 0,
    "dagster.partition_key": PARTITION,
}
REPORTED: Attributes = {
    "db.operation.name": "MERGE",
    "dbt.rows_affected": 540,
    "dbt.bytes_processed": 2048,
    "dbt.query_id": "query-1",
}
FAILED: Attributes = {"error.type": "dbt.fail"}
ORDERS: Attributes = {
    "dagster.asset.key": "orders",
    "dbt.materialized": "table",
    "db.collection.name": "orders",
}
ORDERS_FILE = "models/marts/orders.sql"

SPANS: dict[str, Attributes] = {
    "run daily": STEP | FAILED,
    "step dbt": STEP | FAILED | {"dagster.step.key": "dbt"},
    "dbt": STEP | FAILED | {"dbt.invocation_id": INVOCATION_ID, "dbt.version": RECORDING["metadata"]["dbt_version"]},
    "seed.shop.raw_customers": node("seed.shop.raw_customers", "success", "seeds/raw_customers.csv")
    | REPORTED
    | {"dagster.asset.key": "raw_customers", "dbt.materialized": "seed", "db.collection.name": "raw_customers"},
    "model.shop.orders": node("model.shop.orders", "success", ORDERS_FILE) | ORDERS | REPORTED,
    # The statement of a node, which is traced if FLOE_TRACE_SQL is set.
    "CREATE": {
        **STEP,
        **names.ATTRIBUTES,
        **ORDERS,
        "db.namespace": namespace("model.shop.orders"),
        "code.file.path": ORDERS_FILE,
        "db.query.text": f"/* by dbt */ {STATEMENT}",
        "db.operation.name": "CREATE",
        "dbt.query_id": "query-2",
    },
    "snapshot.shop.customer_history": node(
        "snapshot.shop.customer_history", "success", "snapshots/customer_history.yml"
    )
    | REPORTED
    | {
        "dagster.asset.key": "customer_history",
        "dbt.materialized": "snapshot",
        "db.collection.name": "customer_history",
    },
    "model.shop.broken": node("model.shop.broken", "error", "models/marts/broken.sql")
    | {
        "dagster.asset.key": "broken",
        "dbt.materialized": "table",
        "db.collection.name": "broken",
        "error.type": FINISHED["model.shop.broken"]["message"].partition(" in ")[0],
    },
    "model.shop.after_broken": node("model.shop.after_broken", "skipped", "models/marts/after_broken.sql")
    | {"dagster.asset.key": "after_broken", "dbt.materialized": "table", "db.collection.name": "after_broken"},
    NOT_NULL: node(NOT_NULL, "pass", "models/marts/marts.yml")
    | REPORTED
    | {"dbt.materialized": "test", "dbt.failures": 0},
    "test.shop.fails": node("test.shop.fails", "fail", "tests/fails.sql")
    | REPORTED
    | FAILED
    | {"dbt.materialized": "test", "dbt.failures": FINISHED["test.shop.fails"]["num_failures"]},
    SOURCE: node(SOURCE, "warn", "models/staging/sources.yml") | {"db.collection.name": "payments_export"},
}
# Span -> its event `exception`.
EXCEPTIONS: dict[str, Attributes] = {
    "dbt": {"exception.type": "dbt.fail", "exception.message": "dbt ended with exit code 1"},
    "test.shop.fails": {
        "exception.type": "dbt.fail",
        "exception.message": FINISHED["test.shop.fails"]["message"],
    },
}
# The service that spans and metrics come from.
RESOURCE: Attributes = {"service.name": settings.name, "deployment.environment.name": settings.dbt_target}
# Name and unit of a metric -> one of its attributes -> the sum over its data points with that attribute, or for a
# histogram their number.
METRICS: dict[tuple[str, str], dict[str, int]] = {
    ("dbt.node.duration", "s"): {"dbt.resource_type=seed": 3, "dbt.status=error": 1, "dbt.status=skipped": 1},
    ("dbt.node.rows", "{row}"): {"dbt.resource_type=seed": 3 * 540, "dbt.resource_type=snapshot": 540},
    ("dbt.command.count", "{command}"): {"dbt.status=fail": 1},
    ("floe.lineage.events", "{event}"): {"floe.delivery=sent": 36 + 2 * HAS_UNIT_TEST},
}
