"""Lineage of the recorded run: its runs, its datasets and what is said of them."""

from __future__ import annotations

import copy
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

from . import names
from .everything import SOURCE
from .runs import HAS_UNIT_TEST, INVOCATION_ID, RECORDING, RUN_ID, UNIT_TEST, Sent, send_recorded
from .test_attributes import as_dict

ENDS = {
    "daily": "FAIL",
    "dbt.shop": "FAIL",
    "seed.shop.payments_export": "COMPLETE",
    "seed.shop.raw_customers": "COMPLETE",
    "seed.shop.raw_orders": "COMPLETE",
    "model.shop.stg_customers": "COMPLETE",
    "model.shop.stg_orders": "COMPLETE",
    "model.shop.stg_payments": "COMPLETE",
    "model.shop.orders": "COMPLETE",
    "model.shop.customer_cohorts": "COMPLETE",
    "model.shop.daily_revenue": "COMPLETE",
    "snapshot.shop.customer_history": "COMPLETE",
    "model.shop.broken": "FAIL",
    "model.shop.after_broken": "ABORT",
    "test.shop.not_null_orders_order_id.cf6c17daed": "COMPLETE",
    "test.shop.fails": "FAIL",
    "test.shop.warns": "COMPLETE",
    **({UNIT_TEST: "COMPLETE"} if HAS_UNIT_TEST else {}),
}
ORDERS = "model.shop.orders"
# Column of `orders` -> all that it is made of, by table and column; "" stands for what decides which rows there are.
ORIGINS = {
    "order_id": {"stg_orders.order_id": ["IDENTITY"]},
    "gross_amount": {"stg_orders.amount_cents": ["TRANSFORMATION"]},
    "net_amount": {
        "stg_payments.amount_cents": ["AGGREGATION"],
        "stg_payments.payment_method": ["CONDITIONAL"],
        "stg_payments.payment_status": ["CONDITIONAL"],
    },
    "is_paid": {
        "stg_orders.amount_cents": ["TRANSFORMATION"],
        "stg_payments.amount_cents": ["AGGREGATION"],
        "stg_payments.payment_method": ["CONDITIONAL"],
        "stg_payments.payment_status": ["CONDITIONAL"],
    },
    "": {"stg_orders.order_id": ["JOIN"], "stg_payments.order_id": ["GROUP_BY", "JOIN"]},
}


def test_start_and_end(sent: Sent) -> None:
    """Each run has one START and one end, which is the right one; an ephemeral model has no run."""
    states = Counter((event["job"]["name"], event["eventType"]) for event in sent.events)

    assert states == Counter([*((job, "START") for job in ENDS), *ENDS.items()])


def test_order(sent: Sent) -> None:
    """The START of a run arrives before its end."""
    jobs = [event["job"]["name"] for event in sent.events if event["eventType"] == "START"]

    for job in jobs:
        first = next(event for event in sent.events if event["job"]["name"] == job)
        assert first["eventType"] == "START"


def test_run_ids(sent: Sent) -> None:
    """Run ids are Dagster's, dbt's, and of a node one derived from both: sending twice changes nothing."""
    run_ids = {event["job"]["name"]: event["run"]["runId"] for event in sent.events}
    nodes = {job: str(uuid5(UUID(INVOCATION_ID), job)) for job in ENDS if job not in {"daily", "dbt.shop"}}

    assert run_ids == {"daily": RUN_ID, "dbt.shop": INVOCATION_ID, **nodes}


def test_parents(sent: Sent) -> None:
    """A node's parent is the dbt command, the command's the Dagster run, which is the root of all."""
    parents = {
        event["job"]["name"]: event["run"]["facets"]["parent"]
        for event in sent.events
        if event["job"]["name"] != "daily"
    }

    assert {facet["root"]["run"]["runId"] for facet in parents.values()} == {RUN_ID}
    assert parents.pop("dbt.shop")["run"]["runId"] == RUN_ID
    assert {facet["run"]["runId"] for facet in parents.values()} == {INVOCATION_ID}


def test_dataset_names(sent: Sent) -> None:
    """Datasets have the names that other tools know them by."""
    event = sent.event(ORDERS)
    written, read = (
        {(dataset["namespace"], dataset["name"]) for dataset in event[side]} for side in ("outputs", "inputs")
    )

    assert written == {(names.NAMESPACE, names.table("orders"))}
    assert read == {(names.NAMESPACE, names.table(name)) for name in ("stg_orders", "stg_payments")}


def test_nothing_claimed(sent: Sent) -> None:
    """What failed or was skipped has written nothing."""
    assert [sent.event(job)["outputs"] for job in ("model.shop.broken", "model.shop.after_broken")] == [[], []]


def test_rows_added(tmp_path: Path) -> None:
    """An incremental model that is not rebuilt has not overwritten its table; the last of two flags counts."""
    sent = send_recorded(tmp_path, arguments=("dbt", "build", "--full-refresh", "--no-full-refresh"))

    assert "lifecycleStateChange" not in sent.output("model.shop.daily_revenue")["facets"]
    assert "lifecycleStateChange" in sent.output(ORDERS)["facets"]


def test_rows_not_counted(tmp_path: Path) -> None:
    """A warehouse that has not counted rows, and says -1, states no number of them."""
    changed = copy.deepcopy(RECORDING)
    for event in changed["finished"]:
        event["data"]["run_result"]["adapter_response"] = {"rows_affected": -1.0}
    sent = send_recorded(tmp_path, recording=changed)

    assert "outputStatistics" not in sent.output(ORDERS).get("outputFacets", {})
    assert "dbt.rows_affected" not in as_dict(sent.span(ORDERS).attributes)


def test_schema(sent: Sent) -> None:
    """A table has its columns in order, with their descriptions."""
    fields = sent.output(ORDERS)["facets"]["schema"]["fields"]

    assert [field["name"] for field in fields[:2]] == [names.column("order_id"), names.column("customer_id")]
    assert fields[0]["description"] == "Identifier of the order."


def test_column_lineage(sent: Sent) -> None:
    """A column has all columns that it is made of, through the ephemeral model between."""
    facet = sent.output(ORDERS)["facets"]["columnLineage"]
    inputs = {name: facet["fields"][names.column(name)]["inputFields"] for name in ORIGINS if name}
    inputs[""] = facet["dataset"]

    assert {name: {at(origin): subtypes(origin) for origin in origins} for name, origins in inputs.items()} == {
        name: {place(origin): kinds for origin, kinds in origins.items()} for name, origins in ORIGINS.items()
    }


def at(origin: Mapping[str, Any]) -> tuple[str, str, str]:
    """Return the column that an origin is."""
    return origin["namespace"], origin["name"], origin["field"]


def subtypes(origin: Mapping[str, Any]) -> list[str]:
    """Return what was done with an origin."""
    return [transformation["subtype"] for transformation in origin["transformations"]]


def place(origin: str) -> tuple[str, str, str]:
    """Return the namespace, table and column of an origin that `ORIGINS` lists."""
    table, _, column = origin.partition(".")
    return names.NAMESPACE, names.table(table), names.column(column)


def test_alias(tmp_path: Path) -> None:
    """What has another name in the warehouse than in dbt has that name: a model by its alias, a source by its own."""
    renamed = copy.deepcopy(RECORDING)
    renamed["nodes"][ORDERS]["alias"] = "orders_v2"
    renamed["sources"][SOURCE]["identifier"] = "payments_2026"
    sent = send_recorded(tmp_path, recording=renamed)
    [read] = sent.event("model.shop.daily_revenue")["inputs"]

    assert sent.output(ORDERS)["name"] == read["name"] == names.table("orders_v2")
    assert names.table("payments_2026") in {table["name"] for table in sent.event("model.shop.stg_payments")["inputs"]}
    assert sent.event(ORDERS)["job"]["facets"]["dbt_node"]["alias"] == "orders_v2"
    assert as_dict(sent.span(ORDERS).attributes)["db.collection.name"] == "orders_v2"


def test_owner_and_tags(sent: Sent) -> None:
    """Owner, tags and `meta.floe` of a model and its columns travel with its table."""
    orders, customers = (sent.output(job)["facets"] for job in (ORDERS, "model.shop.stg_customers"))
    tags = {(tag["key"], tag["value"]) for tag in orders["tags"]["tags"]}
    email = {tag["key"]: tag["value"] for tag in customers["tags"]["tags"] if tag.get("field") == names.column("email")}

    assert [owner["name"] for owner in orders["ownership"]["owners"]] == ["team:analytics"]
    assert {("finance", "true"), ("classification", "confidential"), ("sla", "24h")} <= tags
    assert email == {"classification": "pii", "pii_type": "email", "sensitivity": "high"}


def test_error_message(sent: Sent) -> None:
    """The end of what failed says why, in dbt's words."""
    messages = {
        job: sent.event(job)["run"]["facets"]["errorMessage"]["message"]
        for job in ("model.shop.broken", "test.shop.fails", "model.shop.after_broken")
    }

    assert "in model broken" in messages["model.shop.broken"]
    assert "configured to fail if != 0" in messages["test.shop.fails"]
    assert re.search(r"compiled code at .+fails\.sql$", messages["test.shop.fails"])
    assert "model.shop.broken failed" in messages["model.shop.after_broken"]


def test_assertions(sent: Sent) -> None:
    """A test says of the table that it looks at whether it held."""
    found = {
        job: [
            assertion["success"]
            for dataset in sent.event(job)["inputs"]
            for assertion in dataset["inputFacets"]["dataQualityAssertions"]["assertions"]
        ]
        for job in ENDS
        if job.startswith("test.")
    }

    assert found["test.shop.not_null_orders_order_id.cf6c17daed"] == [True]
    assert found["test.shop.fails"] == [False]


def test_tags_of_run(sent: Sent) -> None:
    """The run's tags in Dagster count what was sent, which is what has arrived."""
    assert sent.tags["floe/lineage"] == f"{len(sent.events)} sent"
    assert sent.tags["floe/traces"] == f"{len(sent.spans)} sent"
