"""The life of a node -> OpenTelemetry spans, with dbt's own times.

One trace a Dagster run, its trace id the run id: run > step > dbt command > node > SQL statement (if asked for). The
run's span id is derived from the run id too, so that all processes of a run hang their steps below it without having
to tell each other; the step that ends last sends it. What a span says stands in `attributes.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any
from uuid import UUID

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from ..events import CommandFinished, CommandStarted, Life, NodeFinished, Outcome
from ..graph import Node
from .attributes import Attributes, Statement, node_attributes, statement_attributes

# As in OpenTelemetry's semantic conventions, what is no error is left unset.
ERRORS = {Outcome.FAIL: "dbt.error", Outcome.INTERRUPTED: "dbt.interrupted"}
PROPAGATOR = TraceContextTextMapPropagator()


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """The Dagster step that runs dbt.

    Attributes:
        run_id: Dagster's run id, a UUID.
        job_name: Of the run.
        key: Of the step.
        run_started_at: When the run started.
        attributes: What each span of the step says.
        traceparent: The trace that the run was started from, if it was told one.
    """

    run_id: str
    job_name: str
    key: str
    run_started_at: datetime
    attributes: Attributes
    traceparent: str | None = None


class RunIds(IdGenerator):
    """Trace ids that are a Dagster run id; span ids at random, but for the run's own."""

    def __init__(self, run_id: str) -> None:
        self.trace_id = UUID(run_id).int
        self.run_span_id = int.from_bytes(sha256(UUID(run_id).bytes).digest()[:8], "big") or 1
        self._random = RandomIdGenerator()
        self._next: int | None = None

    def use_run_span_id(self) -> None:
        """Give the next span the run's id."""
        self._next = self.run_span_id

    def generate_trace_id(self) -> int:
        """Return the run id as a number of 128 bits."""
        return self.trace_id

    def generate_span_id(self) -> int:
        """Return a number of 64 bits."""
        span_id, self._next = self._next or self._random.generate_span_id(), None
        return span_id


class Tracing:
    """The spans of one step that runs dbt."""

    def __init__(self, step: Step, resource: Resource, processor: SpanProcessor | None) -> None:
        """Start the step's span. Without `processor` the ids are as valid, and nothing is kept or sent."""
        self._said = step
        self._ids = RunIds(step.run_id)
        provider = TracerProvider(resource=resource, id_generator=self._ids, shutdown_on_exit=False)
        if processor:
            provider.add_span_processor(processor)
        # Each process of the run decides alike: the samplers of the specification look at the trace id only.
        sampled = provider.sampler.should_sample(None, self._ids.trace_id, "run").decision is Decision.RECORD_AND_SAMPLE
        flags = TraceFlags(TraceFlags.SAMPLED if sampled else TraceFlags.DEFAULT)
        self._run = NonRecordingSpan(SpanContext(self._ids.trace_id, self._ids.run_span_id, True, flags))
        self._tracer = provider.get_tracer("floe")
        self._step = self._child(self._run, f"step {step.key}", None, {"dagster.step.key": step.key})
        self._command: Span | None = None
        self._nodes: dict[str, SpanContext] = {}

    def environment(self) -> dict[str, str]:
        """Return the variables that hand the trace to dbt (https://www.w3.org/TR/trace-context/)."""
        carrier: dict[str, str] = {}
        PROPAGATOR.inject(carrier, trace.set_span_in_context(self._step))
        # dbt repeats variables of the second kind in each line of its JSON log and in run_results.json.
        return {"TRACEPARENT": carrier["traceparent"], "DBT_ENV_CUSTOM_ENV_TRACEPARENT": carrier["traceparent"]}

    def context_of(self, unique_id: str | None = None) -> SpanContext:
        """Return the ids of a node's span, or those of the step."""
        return self._nodes.get(unique_id or "", self._step.get_span_context())

    def record(self, life: Life, node: Node, attributes: Attributes, statements: list[Statement]) -> None:
        """Start or end the span that `life` tells of.

        Args:
            life: What happened.
            node: The manifest's entry of the node, or empty.
            attributes: What its spans say besides, such as the warehouse's.
            statements: The SQL that ran for it, if it was asked for.
        """
        match life:
            case CommandStarted():
                said = {"dbt.invocation_id": life.invocation_id, "dbt.version": life.dbt_version or "unknown"}
                self._command = self._child(self._step, "dbt", life.at, said)
            case CommandFinished() if self._command is not None:
                _end(self._command, life.outcome, life.message, life.at)
            case NodeFinished() if self._command is not None:
                self._record_node(self._command, life, node, attributes, statements)

    def end(self, outcome: Outcome, message: str | None, *, run_outcome: Outcome | None) -> None:
        """End the step's span, and the run's if it is this step that ends it."""
        _end(self._step, outcome, message, None)
        if run_outcome:
            self._ids.use_run_span_id()
            outer = PROPAGATOR.extract({"traceparent": self._said.traceparent or ""}, Context())
            caller = trace.get_current_span(outer).get_span_context()
            run = self._tracer.start_span(
                f"run {self._said.job_name}",
                context=Context(),
                links=[Link(caller)] if caller.is_valid else None,
                start_time=_nanoseconds(self._said.run_started_at),
                attributes=self._said.attributes,
            )
            _end(run, run_outcome, message, None)

    def _record_node(
        self, command: Span, life: NodeFinished, node: Node, attributes: Attributes, statements: list[Statement]
    ) -> None:
        started_at = life.started.at if life.started else life.at
        upstream = [self._nodes[parent] for parent in _upstream(node) if parent in self._nodes]
        said = {**attributes, **node_attributes(life, node)}
        span = self._child(command, life.unique_id, started_at, said, [Link(context) for context in upstream])
        self._nodes[life.unique_id] = span.get_span_context()
        for statement in statements:
            # Clocks of dbt's log lines and of its results differ by a hair: a child stays within its parent.
            start, end = (min(max(at, started_at), life.at) for at in (statement.started_at, statement.finished_at))
            child = self._child(span, statement.operation, start, statement_attributes(statement, attributes))
            child.end(_nanoseconds(end))
        _end(span, life.outcome, life.message, life.at)

    def _child(
        self,
        parent: Span,
        name: str,
        at: datetime | None,
        attributes: Attributes,
        links: list[Link] | None = None,
    ) -> Span:
        return self._tracer.start_span(
            name,
            context=trace.set_span_in_context(parent, Context()),
            kind=SpanKind.CLIENT if "db.query.text" in attributes else SpanKind.INTERNAL,
            start_time=_nanoseconds(at) if at else None,
            attributes={**self._said.attributes, **attributes},
            links=links,
        )


class Handoff(SpanProcessor):
    """Give each ended span to `put`, which sends it from another thread."""

    def __init__(self, put: Callable[[ReadableSpan], None]) -> None:
        self._put = put

    def on_end(self, span: ReadableSpan) -> None:
        """Pass a sampled span on."""
        if span.context is not None and span.context.trace_flags.sampled:
            self._put(span)


def _upstream(node: Node) -> list[str]:
    found: list[str] = node.get("depends_on", {}).get("nodes", [])
    return found


def _end(span: Span, outcome: Outcome, message: str | None, at: datetime | None) -> None:
    end_time = _nanoseconds(at) if at else None
    if outcome in ERRORS:
        span.set_attribute("error.type", ERRORS[outcome])
        span.set_status(Status(StatusCode.ERROR, message))
        if message:
            said: Mapping[str, Any] = {"exception.type": ERRORS[outcome], "exception.message": message}
            span.add_event("exception", said, timestamp=end_time)
    span.end(end_time=end_time)


def _nanoseconds(at: datetime) -> int:
    return int(at.timestamp() * 1_000_000) * 1_000
