"""A run with everything of which lineage and spans can speak, most of which few projects have at once.

It is the recorded run with a partition, a schedule, a run of another system above it, a git repository, exposures,
table formats, more of what the warehouse may report, and the freshness of a source.
"""

from __future__ import annotations

import copy
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from . import names
from .runs import INVOCATION_ID, RECORDING, run_recorded

OUTER_RUN_ID, ROOT_RUN_ID = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"
OUTER_TRACE_ID, OUTER_SPAN_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
ENVIRONMENT = {
    "OPENLINEAGE_PARENT_ID": f"airflow/nightly.shop/{OUTER_RUN_ID}",
    "OPENLINEAGE_ROOT_PARENT_ID": f"airflow/nightly/{ROOT_RUN_ID}",
    "TRACEPARENT": f"00-{OUTER_TRACE_ID}-{OUTER_SPAN_ID}-01",
    "FLOE_TRACE_SQL": "1",
}
PARTITION = "2026-11-22"
CONTEXT = {
    "run": SimpleNamespace(
        execution_plan_snapshot_id="plan",
        parent_run_id=None,
        tags={"dagster/partition": PARTITION, "dagster/schedule_name": "nightly", "dagster/step_key": "is not sent"},
    ),
    "has_partition_key": True,
    "partition_key": PARTITION,
    "partition_time_window": SimpleNamespace(
        start=datetime(2026, 11, 22, tzinfo=UTC), end=datetime(2026, 11, 23, tzinfo=UTC)
    ),
}
ARGUMENTS = ("dbt", "build", "--select", "orders+", "--vars", "{token: 1}", "--full-refresh")
SIGN_IN = "user:token"
COMMIT = "0123456789" * 4
GIT = {
    "HEAD": "ref: refs/heads/main\n",
    "refs/heads/main": f"{COMMIT}\n",
    "refs/tags/v1.2.0": f"{COMMIT}\n",
    "config": f'[remote "origin"]\n\turl = https://{SIGN_IN}@git.example.com/shop/dbt.git\n',
}
SOURCE = "source.shop.payment_provider.payments_export"
NOT_NULL = "test.shop.not_null_orders_order_id.cf6c17daed"
STATEMENT = "create table orders as select 1"
INCREMENTAL = {
    "incremental_strategy": "microbatch",
    "unique_key": ["ordered_on"],
    "incremental_predicates": ["ordered_on > '2026-01-01'"],
    "on_schema_change": "append_new_columns",
    "partition_by": {"field": "ordered_on", "data_type": "date", "granularity": "day"},
    "event_time": "ordered_on",
    "batch_size": "day",
    "begin": "2026-01-01",
    "lookback": 3,
    "full_refresh": True,
}
# What dbt says of a node: together more than any one warehouse reports.
RESPONSE = {"code": "MERGE", "rows_affected": 540.0, "bytes_processed": 2048.0, "query_id": "query-1"}


def run(folder: Path, url: str) -> dict[str, str]:
    """Observe the run in the environment `ENVIRONMENT`; return the tags that the Dagster run gets."""
    for name, text in GIT.items():
        file = folder / ".git" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return run_recorded(
        folder,
        lineage_url=url,
        otlp_url=url,
        recording=recording(),
        context=CONTEXT,
        arguments=ARGUMENTS,
        project_version="1.2.0",
    )


def recording(statement: str = STATEMENT) -> dict[str, Any]:
    """Return the recording with what it lacks; `statement` is the SQL that dbt's log has of one model."""
    full: dict[str, Any] = copy.deepcopy(RECORDING)
    nodes, printed, finished = full["nodes"], full["printed"], full["finished"]
    formats = {"table_format": "iceberg", "file_format": "iceberg"}
    of_owner = {"access": "protected", "owner": "finance", "group": "revenue"}
    revenue = nodes["model.shop.daily_revenue"]
    revenue["config"] |= {**INCREMENTAL, **formats, **of_owner}
    if names.CATALOG:
        revenue["database"] = names.CATALOG["name"]
    nodes["model.shop.orders"]["columns"]["order_id"]["tags"] = ["key"]
    nodes["model.shop.broken"]["language"] = "python"
    nodes["model.shop.stg_orders"]["config"]["materialized"] = "materialized_view"
    nodes["model.shop.stg_payments"]["config"]["materialized"] = "dynamic_table"
    nodes[NOT_NULL]["description"] = "Each order has an identifier."
    nodes[NOT_NULL]["test_metadata"]["kwargs"]["where_not"] = ["web"]
    full["exposures"]["exposure.shop.revenue_dashboard"] |= {"type": "dashboard", "url": "https://bi.example.com/1"}
    orders = nodes["model.shop.orders"]["relation_name"]
    unknown = "select elsewhere.* from ORDERS cross join elsewhere".replace("ORDERS", orders)
    full["compiled"]["compiled/shop/models/marts/customer_cohorts.sql"] = unknown
    for event in finished:
        if event["data"]["run_result"]["status"] not in {"error", "skipped"}:
            event["data"]["run_result"]["adapter_response"] = RESPONSE
    finished += [
        dbt_event("SQLQuery", "model.shop.orders", sql=f"/* by dbt */ {statement}"),
        dbt_event("SQLQueryStatus", "model.shop.orders", status="OK", elapsed=0.01, query_id="query-2"),
    ]
    result: dict[str, Any] = {"status": "warn", "adapter_response": {}, "message": None, "timing_info": []}
    printed += [dbt_event("LogStartLine", SOURCE), dbt_event("LogFreshnessResult", SOURCE, status="warn")]
    finished += [dbt_event("NodeFinished", SOURCE, run_result=result)]
    return full


def dbt_event(name: str, unique_id: str, **data: Any) -> dict[str, Any]:
    """Return an event of dbt's about a node."""
    node = {"unique_id": unique_id, "resource_type": unique_id.partition(".")[0], "node_status": data.get("status")}
    info = {"name": name, "ts": "2026-11-23T05:50:00Z", "invocation_id": INVOCATION_ID, "level": "info", "msg": ""}
    return {"info": info, "data": {"node_info": node, **data}}
