"""Tests of the trace of a real run, received over each protocol and under each executor."""

from __future__ import annotations

import json
import re
from collections import Counter
from datetime import datetime
from pathlib import Path

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tools.runs import Run, attributes

pytestmark = pytest.mark.xdist_group("tracing")

ABOVE = ["run everything", "step dbt_models", "dbt"]


LEVELS = ["run", "step", "command", "node", "statement"]
OF_PYTHON = ["asset", "check"]


def level(span: Span) -> str:
    """Return the level of a span among `LEVELS`."""
    if span.kind == Span.SPAN_KIND_CLIENT:
        return "statement"
    return "node" if "." in span.name else "command" if span.name == "dbt" else span.name.split()[0]


def executed(run: Run) -> set[str]:
    """Return the nodes with results in dbt, except for exposures, which are not run."""
    return {unique_id for unique_id in run.results if not unique_id.startswith("exposure.")}


def skipped(run: Run) -> set[str]:
    """Return the nodes that dbt skipped."""
    return {unique_id for unique_id, result in run.results.items() if result["status"] == "skipped"}


def test_one_span_a_node(run: Run) -> None:
    """There is one span per node and per level above, in the trace whose id is the run id."""
    assert Counter([*executed(run), *ABOVE]) == Counter(span.name for span in run.spans if span not in run.statements)
    assert {run.trace_id} == {span.trace_id.hex() for span in run.spans}
    assert {"success", "pass", "error", "fail", "skipped"} <= {result["status"] for result in run.results.values()}


def test_tree(run: Run) -> None:
    """There is one root and no orphan, and a child lies within its parent."""
    by_id = {span.span_id: span for span in run.spans}

    assert ["run everything"] == [span.name for span in run.spans if not span.parent_span_id]
    for span in run.spans:
        if span.parent_span_id:
            parent = by_id[span.parent_span_id]
            assert parent.start_time_unix_nano <= span.start_time_unix_nano, span.name
            assert span.end_time_unix_nano <= parent.end_time_unix_nano, span.name
            assert level(parent) == LEVELS[LEVELS.index(level(span)) - 1]


def test_times(run: Run) -> None:
    """A node's span differs from run_results.json by less than 50 ms."""
    timed = {unique_id: result["timing"] for unique_id, result in run.results.items() if result["timing"]}

    assert len(timed) > 50
    for unique_id, timing in timed.items():
        if unique_id in executed(run):
            span = run.span(unique_id)
            assert abs(seconds(timing[0]["started_at"]) - span.start_time_unix_nano / 1e9) < 0.05, unique_id
            assert abs(seconds(timing[-1]["completed_at"]) - span.end_time_unix_nano / 1e9) < 0.05, unique_id


def seconds(time: str) -> float:
    """Return a time of run_results.json."""
    return datetime.fromisoformat(time).timestamp()


def test_parallel(run: Run) -> None:
    """The spans of nodes that dbt ran at the same time overlap."""
    seeds = sorted(span.start_time_unix_nano for span in run.spans if span.name.startswith("seed."))
    ends = [span.end_time_unix_nano for span in run.spans if span.name.startswith("seed.")]
    assert seeds[1] < min(ends)


def test_bad_nodes(run: Run) -> None:
    """A failed node's span has the kind of failure and dbt's message; a skipped node's has no error and no duration."""
    failed, unfit, unrun = (
        run.span(name) for name in ("model.pipeline.broken", "test.pipeline.fails", "model.pipeline.after_broken")
    )

    assert ("Runtime Error", "error") == (attributes(failed)["error.type"], attributes(failed)["dbt.status"])
    assert 'Referenced column "no_such_column"' in exception(failed)
    assert ("dbt.fail", 120) == (attributes(unfit)["error.type"], attributes(unfit)["dbt.failures"])
    assert exception(unfit).startswith("Got 120 results")
    assert ("skipped", 0) == (
        attributes(unrun)["dbt.status"],
        unrun.end_time_unix_nano - unrun.start_time_unix_nano,
    )
    above_statements = (span for span in run.spans if span not in run.statements)
    bad = {span.name for span in above_statements if span.status.code == Status.STATUS_CODE_ERROR}
    assert {failed.name, unfit.name, *ABOVE} == bad


def test_reason(run: Run) -> None:
    """The spans of command, step and run give dbt's message for the first failed node, and the number of the others."""
    failed = r"(model\.pipeline\.broken: Runtime Error in model broken|test\.pipeline\.fails: Got 120 results)"
    expected = re.compile(failed + r".*\n\n1 other node failed as well\.", re.DOTALL)
    ends = {event["job"]["name"]: event["run"]["facets"] for event in run.events if event["eventType"] == "FAIL"}
    reasons = [run.span(name).status.message for name in ABOVE]
    reasons += [ends[job]["errorMessage"]["message"] for job in ("dbt.pipeline", "everything")]

    assert [] == [reason for reason in reasons if not expected.fullmatch(reason)]


def exception(span: Span) -> str:
    """Return the message of a span's one exception."""
    (event,) = span.events
    assert "exception" == event.name
    return next(str(each.value.string_value) for each in event.attributes if each.key == "exception.message")


def test_links(run: Run) -> None:
    """A node is linked to the nodes that it reads, also through ephemeral models, and a test only to its model."""
    names = {span.span_id: span.name.split(".", 1)[1] for span in run.spans if "." in span.name}
    linked = {span.name: {names[link.span_id] for link in span.links} for span in run.spans}

    assert {"pipeline.stg_orders", "pipeline.stg_payments"} == linked["model.pipeline.orders"]
    assert {"pipeline.payments_export"} == linked["model.pipeline.stg_payments"]
    assert {"pipeline.customers"} == linked["test.pipeline.fails"]
    unit_test = "unit_test.pipeline.daily_revenue.daily_revenue_computes_the_refund_window_again"
    assert {"pipeline.daily_revenue"} == linked[unit_test]


def test_rows(run: Run) -> None:
    """Row counts are integers in the span and in the metric."""
    (rows,) = (metric for metric in run.metrics if metric.name == "dbt.node.rows")

    assert 540 == attributes(run.span("seed.pipeline.raw_orders"))["dbt.rows_affected"]
    assert 540 + 684 + 120 + 15 == sum(point.as_int for point in rows.sum.data_points)


def test_repeated_by_dbt(run: Run) -> None:
    """The run_results.json and log of dbt have the ids of the trace and of the step's span."""
    (folder,) = run.targets
    told = f"00-{run.trace_id}-{run.span('step dbt_models').span_id.hex()}-01"

    assert told in (folder / "run_results.json").read_text()
    assert told in (folder / "dbt.log").read_text().splitlines()[0]


def test_query_comment(run: Run) -> None:
    """Each query's comment has the command, the trace and the node, in addition to dbt's default."""
    (folder,) = run.targets
    events = [json.loads(line) for line in (folder / "dbt.log").read_text().splitlines() if '"SQLQuery"' in line]
    comments = [json.loads(found[1]) for each in events if (found := re.match(r"/\* (.*) \*/", each["data"]["sql"]))]

    assert {(attributes(run.span("dbt"))["dbt.invocation_id"], run.trace_id)} == {
        (comment["invocation_id"], comment["traceparent"].split("-")[1]) for comment in comments
    }
    assert executed(run) - skipped(run) == {comment["node_id"] for comment in comments if "node_id" in comment}
    assert {"app", "dbt_version", "profile_name", "target_name"} <= set.intersection(*map(set, comments))


def test_statements(run: Run) -> None:
    """With FLOE_TRACE_SQL, statements are below each node that ran SQL; without it, there are none."""
    (folder,) = run.targets
    by_id = {span.span_id: span.name for span in run.spans}

    assert bool(run.statements) == ("FLOE_TRACE_SQL" in run.variables)
    if run.statements:
        with_sql = {name for name in executed(run) if f'"{name}"' in (folder / "dbt.log").read_text()}
        assert with_sql - skipped(run) == {by_id[each.parent_span_id] for each in run.statements}
        assert any("create  table" in str(attributes(each)["db.query.text"]) for each in run.statements)
        failed = [span for span in run.statements if span.status.code == Status.STATUS_CODE_ERROR]
        assert ["model.pipeline.broken"] == [by_id[span.parent_span_id] for span in failed]
        assert "no_such_column" in str(attributes(failed[0])["db.query.text"]) + failed[0].status.message


def test_documented(run: Run) -> None:
    """The attributes in the documentation are those of the spans, level by level."""
    documented = table(run.project / "docs" / "tracing.md")
    found = {(name, level(span)) for span in run.spans for name in attributes(span)}
    # Not of DuckDB, and of no partitioned run.
    partitions = {"dagster.partition_key", "dagster.partition_key_range.start", "dagster.partition_key_range.end"}
    elsewhere = partitions | {
        "dbt.bytes_processed",
        "dbt.bytes_billed",
        "dbt.slot_ms",
        "dbt.cost",
        "dbt.query_id",
        "server.address",
        "server.port",
        # Of assets in Python, whose own tests compare them.
        "dagster.asset.row_count",
        "dagster.asset_check.name",
        "dagster.asset_check.passed",
        "dagster.asset_check.severity",
    }

    assert set() == found - documented
    if run.statements:
        left = {name for name, _ in documented} - {name for name, _ in found}
        assert elsewhere == left


def table(page: Path) -> set[tuple[str, str]]:
    """Return the levels of each attribute in the page's table."""
    section = page.read_text().partition("## Attributes")[2].partition("\n## ")[0]
    rows = [line.split("|")[1:3] for line in section.splitlines() if line.startswith("| `")]
    return {
        (name, each.strip())
        for names, on in rows
        for name in re.findall(r"`([a-z_.]+)`", names)
        for each in ([*LEVELS, *OF_PYTHON] if on.strip() == "all" else on.split(","))
    }
