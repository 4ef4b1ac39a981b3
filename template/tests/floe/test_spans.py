"""Spans of the recorded run: one trace, one tree, the true status of each node."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from . import everything
from .runs import HAS_UNIT_TEST, INVOCATION_ID, RECORDING, RUN_ID, Sent, send_recorded
from .test_attributes import as_dict

OK, ERROR = Status.STATUS_CODE_UNSET, Status.STATUS_CODE_ERROR
TREE = ("run daily", "step dbt", "dbt")
SQL_CHARACTERS = 4_096  # of a statement are sent, as docs/tracing.md says


def test_trace(sent: Sent) -> None:
    """All spans are of one trace, whose id is that of the Dagster run."""
    assert {span.trace_id.hex() for span in sent.spans} == {RUN_ID.replace("-", "")}


def test_tree(sent: Sent) -> None:
    """Each node's span is below the dbt command's, that below the step's, that below the run's, which is the root."""
    run, step, dbt = map(sent.span, TREE)
    nodes = [span for span in sent.spans if span.name not in TREE]

    assert run.parent_span_id == b""
    assert (step.parent_span_id, dbt.parent_span_id) == (run.span_id, step.span_id)
    assert {span.parent_span_id for span in nodes} == {dbt.span_id}
    assert len(nodes) == 15 + HAS_UNIT_TEST


def test_status(sent: Sent) -> None:
    """What failed, and all above it, is an error; what passed, warned or was skipped is not."""
    errors = {span.name for span in sent.spans if span.status.code == ERROR}

    assert errors == {*TREE, "model.shop.broken", "test.shop.fails"}
    assert sent.span("test.shop.warns").status.code == OK
    assert "in model broken" in sent.span("model.shop.broken").status.message


def test_times(sent: Sent) -> None:
    """A node's span lies within dbt's, at the time that dbt says."""
    dbt, orders = sent.span("dbt"), sent.span("model.shop.orders")

    assert dbt.start_time_unix_nano < orders.start_time_unix_nano < orders.end_time_unix_nano < dbt.end_time_unix_nano


def test_attributes(sent: Sent) -> None:
    """A span says of which command, node and asset it is."""
    dbt, orders = (as_dict(sent.span(name).attributes) for name in ("dbt", "model.shop.orders"))

    assert dbt["dbt.invocation_id"] == INVOCATION_ID
    assert orders["dagster.asset.key"] == "orders"
    assert str(orders["db.collection.name"]).lower().endswith("orders")


def test_links(sent: Sent) -> None:
    """A node's span is linked to those of the nodes that it reads."""
    orders, upstream = sent.span("model.shop.orders"), ("model.shop.stg_orders", "model.shop.stg_payments")

    assert {link.span_id for link in orders.links} == {sent.span(name).span_id for name in upstream}


def test_links_of_part(tmp_path: Path) -> None:
    """A node is linked only to nodes that this command has run: others have no span."""
    part = {**RECORDING, "printed": without("model.shop.stg_orders"), "finished": []}
    sent = send_recorded(tmp_path, recording=part)

    assert {link.span_id for link in sent.span("model.shop.orders").links} == {
        sent.span("model.shop.stg_payments").span_id
    }


def without(unique_id: str) -> list[dict[str, Any]]:
    """Return what dbt has printed, except for what is about one node."""
    printed = RECORDING["printed"]
    return [event for event in printed if event["data"].get("node_info", {}).get("unique_id") != unique_id]


def test_sql_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The statement at which a node failed is an error; one that dbt has ended before is not."""
    monkeypatch.setenv("FLOE_TRACE_SQL", "1")
    changed = everything.recording()
    changed["finished"].insert(0, everything.dbt_event("SQLQuery", "model.shop.broken", sql="select no_such_column"))
    sent = send_recorded(tmp_path, recording=changed)

    assert [sent.span(name).status.code for name in ("SELECT", "CREATE")] == [ERROR, OK]


def test_sql_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without FLOE_TRACE_SQL no SQL is in a span: it holds values of the data."""
    monkeypatch.delenv("FLOE_TRACE_SQL", raising=False)
    sent = send_recorded(tmp_path, recording=everything.recording())

    assert sent.span("model.shop.orders")
    assert everything.STATEMENT not in str(sent.spans)


def test_sql_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a long statement only the beginning is sent."""
    monkeypatch.setenv("FLOE_TRACE_SQL", "1")
    sent = send_recorded(tmp_path, recording=everything.recording(f"create table orders as select '{'x' * 10_000}'"))
    text = str(as_dict(sent.span("CREATE").attributes)["db.query.text"])

    assert text.startswith("/* by dbt */ create table orders")
    assert len(text) == SQL_CHARACTERS
