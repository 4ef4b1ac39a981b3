"""Tests of the spans of nodes: one tree, dbt's own times, and errors with dbt's message."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode
from pipeline.floe.dbt.node_events import CommandFinished, CommandStarted, NodeFinished, NodeStarted, Outcome
from pipeline.floe.dbt.volumes import count
from pipeline.floe.ids import node_span_id, run_span_id, step_span_id, trace_id
from pipeline.floe.step import Step
from pipeline.floe.tracing.attributes import SQL_CHARACTERS, Statement, manifest_attributes, statements
from pipeline.floe.tracing.spans import Handoff, SpanBuilder

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
RUN_ID = "3af8618d-af6f-4b71-be87-6c928a10eb2d"
INVOCATION = "8e506743-094c-4c0d-bc0a-b6576ba61d52"
OTHER = "8e506743-094c-4c0d-bc0a-b6576ba61d53"
ORDERS = {
    "name": "orders",
    "alias": "orders",
    "database": "db",
    "schema": "main",
    "resource_type": "model",
    "config": {"materialized": "table"},
}


def at(seconds: float) -> datetime:
    """Return a time of the test's clock."""
    return NOON + timedelta(seconds=seconds)


def finished(
    name: str,
    start: float,
    end: float,
    outcome: Outcome = Outcome.SUCCESS,
    invocation: str = INVOCATION,
    **said: Any,
) -> NodeFinished:
    """Return the event for the end of a model, including its start."""
    common = {"unique_id": f"model.shop.{name}", "resource_type": "model", "invocation_id": invocation}
    started = None if outcome is Outcome.SKIPPED else NodeStarted(at=at(start), **common)
    return NodeFinished(at=at(end), outcome=outcome, status=outcome.value, started=started, **common, **said)


class Recorded:
    """The tracing of a step, with the spans that it has sent."""

    def __init__(self, run_id: str = RUN_ID, step: str = "dbt_models", **said: Any) -> None:
        self.spans: list[ReadableSpan] = []
        self.step = Step(
            run_id=run_id,
            job_name="daily",
            key=step,
            run_started_at=at(-5),
            **said,
        )
        self.tracing = SpanBuilder(self.step, Resource({"service.name": "shop"}), Handoff(self.spans.append))

    def command(self, *lives: NodeFinished, invocation: str = INVOCATION, **more: Any) -> Recorded:
        """Record a command with these nodes."""
        started = CommandStarted(at=at(0), invocation_id=invocation, dbt_version="1.11.16")
        self.tracing.record(started)
        for life in lives:
            self.tracing.record(life, {"db.system.name": "duckdb", **manifest_attributes(ORDERS)}, **more)
        self.tracing.record(CommandFinished(at=at(100), started=started, outcome=Outcome.SUCCESS))
        return self

    def end(self, *, ends_run: bool = True) -> Recorded:
        """End the step."""
        self.tracing.end(Outcome.SUCCESS, None, run_outcome=Outcome.SUCCESS if ends_run else None)
        return self

    def __getitem__(self, name: str) -> ReadableSpan:
        """Return the only span with a name."""
        (span,) = (span for span in self.spans if span.name == name)
        return span


def span_id(span: ReadableSpan) -> int:
    """Return a span's id."""
    return span.get_span_context().span_id  # type: ignore[union-attr]


def seconds(span: ReadableSpan) -> tuple[float, float]:
    """Return a span's start and end on the test's clock."""
    noon = NOON.timestamp()
    return tuple(round((time or 0) / 1e9 - noon, 3) for time in (span.start_time, span.end_time))  # type: ignore[return-value]


class TestTree:
    """Run > step > dbt command > node > statement."""

    def test_levels(self) -> None:
        """Each level is a child of the one above, in the trace whose id is the run id."""
        recorded = Recorded().command(finished("orders", 1, 2)).end()
        chain = ["model.shop.orders", "dbt", "step dbt_models", "run daily"]

        spans = [recorded[name] for name in chain]

        assert [span_id(span) for span in spans[1:]] == [span.parent.span_id for span in spans[:-1] if span.parent]
        assert recorded["run daily"].parent is None
        assert {RUN_ID.replace("-", "")} == {f"{span.get_span_context().trace_id:032x}" for span in spans}  # type: ignore[union-attr]

    def test_two_steps(self) -> None:
        """Steps of one run in independent processes have the same run span as their parent."""
        first = Recorded(step="one").command().end(ends_run=False)
        second = Recorded(step="two").command().end(ends_run=True)

        steps = [first["step one"], second["step two"]]
        assert {span_id(second["run daily"])} == {step.parent.span_id for step in steps if step.parent}
        assert "run daily" not in [span.name for span in first.spans]

    def test_times(self) -> None:
        """Times are dbt's, so nodes that ran at the same time overlap, however late they were reported."""
        recorded = Recorded().command(finished("a", 1, 5), finished("b", 2, 4)).end()

        assert ((1, 5), (2, 4), (0, 100)) == (
            seconds(recorded["model.shop.a"]),
            seconds(recorded["model.shop.b"]),
            seconds(recorded["dbt"]),
        )
        assert -5 == seconds(recorded["run daily"])[0]

    def test_links(self) -> None:
        """A node is linked to the spans of the nodes that it reads, if this command has run them."""
        upstream = ["model.shop.a", "model.shop.elsewhere"]
        recorded = Recorded().command(finished("a", 1, 2), finished("b", 3, 4), upstream=upstream)

        (link,) = recorded["model.shop.b"].links
        assert span_id(recorded["model.shop.a"]) == link.context.span_id

    def test_results_win(self) -> None:
        """The times of run_results.json take precedence over those of dbt's log lines."""
        life = finished("orders", 1, 9, executed=(at(2), at(3)))

        assert (2, 3) == seconds(Recorded().command(life).end()["model.shop.orders"])

    def test_retry(self) -> None:
        """A second attempt is another span of the same run."""
        first, second = (Recorded().command(), Recorded(attempt=1).command())
        first.end(ends_run=False)
        second.end()

        assert span_id(first["step dbt_models"]) != span_id(second["step dbt_models"])
        assert first["step dbt_models"].parent == second["step dbt_models"].parent

    def test_second_command(self) -> None:
        """A second dbt command in a step has its own span below the step's, with its own nodes."""
        recorded = Recorded().command(finished("orders", 1, 2))
        recorded.command(finished("orders", 3, 4, invocation=OTHER), invocation=OTHER).end()

        commands = [span for span in recorded.spans if span.name == "dbt"]
        nodes = [span for span in recorded.spans if span.name == "model.shop.orders"]
        assert [span_id(recorded["step dbt_models"])] * 2 == [span.parent.span_id for span in commands if span.parent]
        assert [span_id(command) for command in commands] == [span.parent.span_id for span in nodes if span.parent]
        assert 2 == len({span_id(node) for node in nodes})
        assert 1 == [span.name for span in recorded.spans].count("run daily")

    def test_outer_trace(self) -> None:
        """The run's span links to the trace from which the run was started."""
        outer = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

        (link,) = Recorded(traceparent=outer).command().end()["run daily"].links

        assert ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331") == (
            f"{link.context.trace_id:032x}",
            f"{link.context.span_id:016x}",
        )

    def test_repeated_run(self) -> None:
        """The span of a run that repeats another one, for example from its failure, links to that run's span."""
        repeated = "0af76519-16cd-43dd-8448-eb211c80319c"

        (link,) = Recorded(parent_run_id=repeated).command().end()["run daily"].links

        first = Recorded(run_id=repeated).command().end()["run daily"].get_span_context()
        assert first is not None
        assert (first.trace_id, first.span_id) == (link.context.trace_id, link.context.span_id)

    @pytest.mark.parametrize("traceparent", [None, "", "nonsense"])
    def test_no_outer_trace(self, traceparent: str | None) -> None:
        """Without such a trace, or with an invalid one, there is no link."""
        assert () == tuple(Recorded(traceparent=traceparent).command().end()["run daily"].links)


class TestNode:
    """Tests of the spans of nodes."""

    def test_attributes(self) -> None:
        """A node's span has the attributes of dbt, the database and Dagster."""
        life = finished("orders", 1, 2, response={"rows_affected": 540.0, "query_id": "q1", "code": "INSERT"})

        span = Recorded().command(life).end()["model.shop.orders"]

        assert {
            "dagster.run_id": RUN_ID,
            "dagster.job.name": "daily",
            "dagster.retry_number": 0,
            "dbt.invocation_id": INVOCATION,
            "dbt.unique_id": "model.shop.orders",
            "dbt.resource_type": "model",
            "dbt.materialized": "table",
            "dbt.status": "success",
            "dbt.rows_affected": 540,
            "dbt.query_id": "q1",
            "db.system.name": "duckdb",
            "db.namespace": "db.main",
            "db.collection.name": "orders",
            "db.operation.name": "INSERT",
        } == dict(span.attributes or {})
        assert (SpanKind.INTERNAL, StatusCode.UNSET) == (span.kind, span.status.status_code)

    @pytest.mark.parametrize(
        ("message", "kind"),
        [("Database Error in model orders\n  no such column", "Database Error"), ("Got 3 results", "dbt.fail")],
    )
    def test_failed(self, message: str, kind: str) -> None:
        """A failed node has an error status, dbt's kind of error, and dbt's message as an exception."""
        span = Recorded().command(finished("orders", 1, 2, Outcome.FAIL, message=message)).end()["model.shop.orders"]

        (event,) = span.events
        assert (StatusCode.ERROR, kind) == (span.status.status_code, (span.attributes or {})["error.type"])
        assert ("exception", message) == (event.name, (event.attributes or {})["exception.message"])

    def test_skipped(self) -> None:
        """A skipped node has a span without duration or error."""
        span = Recorded().command(finished("orders", 0, 3, Outcome.SKIPPED)).end()["model.shop.orders"]

        assert (3, 3) == seconds(span)
        assert (StatusCode.UNSET, "skipped") == (span.status.status_code, (span.attributes or {})["dbt.status"])


class TestStatements:
    """Tests of the spans of SQL statements, which are optional."""

    EVENTS = (
        {
            "info": {"name": "SQLQuery", "ts": "2026-01-01T12:00:01.100Z"},
            "data": {"sql": "/* dbt */\n  create table x"},
        },
        {
            "info": {"name": "SQLQueryStatus", "ts": "2026-01-01T12:00:01.500Z"},
            "data": {"elapsed": 0.4, "query_id": "q"},
        },
        {"info": {"name": "SQLQuery", "ts": "2026-01-01T12:00:01.600Z"}, "data": {"sql": "broken"}},
    )

    def test_read(self) -> None:
        """Statements are read from dbt's debug log; one without an end is left out unless the node has failed."""
        (statement,) = statements(list(self.EVENTS))

        assert ("CREATE", "q", at(1.1), at(1.5)) == (
            statement.operation,
            statement.query_id,
            statement.started_at,
            statement.finished_at,
        )

    def test_failed_statement(self) -> None:
        """The last statement of a failed node, if it has no status, has an error span with the node's message."""
        _, failed = statements(list(self.EVENTS), at(2))
        node = finished("orders", 1, 2, Outcome.FAIL, message="Database Error in model orders\n  no such table")

        recorded = Recorded().command(node, statements=[failed]).end()

        span = recorded["BROKEN"]
        assert (1.6, 2) == seconds(span)
        assert (StatusCode.ERROR, node.message) == (span.status.status_code, span.status.description)
        assert "Database Error" == (span.attributes or {})["error.type"]

    def test_span(self) -> None:
        """A statement is a client span below its node and within its time, with its text cut at the limit."""
        statement = Statement(text="select " + "x" * 9_000, started_at=at(0.9), finished_at=at(2.1))

        recorded = Recorded().command(finished("orders", 1, 2), statements=[statement]).end()

        span, node = recorded["SELECT"], recorded["model.shop.orders"]
        assert (span_id(node), (1, 2), SpanKind.CLIENT) == (span.parent.span_id, seconds(span), span.kind)  # type: ignore[union-attr]
        assert SQL_CHARACTERS == len(str((span.attributes or {})["db.query.text"]))


def test_to_dbt() -> None:
    """The dbt command gets the step's span as its parent in two variables: one to join the trace, one to repeat."""
    recorded = Recorded()
    told = recorded.tracing.environment()
    recorded.end()

    expected = f"00-{RUN_ID.replace('-', '')}-{span_id(recorded['step dbt_models']):016x}-01"
    assert {"TRACEPARENT": expected, "DBT_ENV_CUSTOM_ENV_TRACEPARENT": expected} == told


def test_sampler(monkeypatch: pytest.MonkeyPatch) -> None:
    """The standard sampler decides for the whole trace."""
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")

    assert [] == Recorded().command(finished("orders", 1, 2)).end().spans


@pytest.mark.parametrize("sampler", ["traceidratio", "parentbased_traceidratio"])
@pytest.mark.parametrize("ratio", [0.1, 0.4, 0.8])
def test_sampler_ratio(monkeypatch: pytest.MonkeyPatch, sampler: str, ratio: float) -> None:
    """The standard ratio is the share of runs whose whole trace is sent, though the trace ids are UUIDs."""
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", sampler)
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", str(ratio))
    random = Random(1)
    runs = [str(UUID(int=random.getrandbits(128), version=4)) for _ in range(300)]
    spans = [len(Recorded(run_id).command(finished("orders", 1, 2)).end().spans) for run_id in runs]

    assert len(set(spans)) == 2
    assert pytest.approx(ratio, abs=0.1) == sum(number > 0 for number in spans) / len(runs)


def test_ids() -> None:
    """Span ids equal those that log lines derive, even in another process and without export."""
    recorded = Recorded().command(finished("orders", 1, 2)).end()

    assert (
        run_span_id(RUN_ID),
        step_span_id(RUN_ID, "dbt_models", 0),
        node_span_id(INVOCATION, "model.shop.orders"),
    ) == tuple(span_id(recorded[name]) for name in ("run daily", "step dbt_models", "model.shop.orders"))


def test_no_uuid() -> None:
    """A run id that is not a UUID, as in a unit test of an asset, still has a trace id."""
    assert 0 < trace_id("EPHEMERAL") < 2**128


def test_count() -> None:
    """A count is an integer; -1 and None are not counts."""
    assert ["3", "0", "None", "None"] == [repr(count(each)) for each in (3.0, 0, -1, None)]
