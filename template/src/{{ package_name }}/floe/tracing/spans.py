"""The life of a node -> OpenTelemetry spans, with dbt's own times.

One trace a Dagster run: run > step > dbt command > node > SQL statement (if asked for). All processes of a run hang
their steps below the run's span, whose id `ids.py` derives from the run's; the dbt step that ends last sends it. What a
span says stands in `attributes.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from ..events import CommandFinished, CommandStarted, Life, NodeFinished, Outcome
from ..redact import redact_values, redactor
from .attributes import Attributes, Statement, error_type, node_attributes, statement_attributes
from .ids import node_span_id, run_span_id, step_span_id, trace_id

PROPAGATOR = TraceContextTextMapPropagator()


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """The Dagster step that runs dbt.

    Attributes:
        run_id: Dagster's run id, a UUID.
        job_name: Of the run.
        key: Of the step.
        attempt: How often Dagster has tried the step before.
        call: How many dbt commands this attempt has run before.
        run_started_at: When the run started.
        attributes: What each span of the step says.
        traceparent: The trace that the run was started from, if it was told one.
    """

    run_id: str
    job_name: str
    key: str
    attempt: int
    run_started_at: datetime
    attributes: Attributes
    traceparent: str | None = None
    call: int = 0

    @property
    def span_id(self) -> int:
        """Return the id of its span."""
        return step_span_id(self.run_id, self.key, self.attempt, self.call)


class DerivedIds(IdGenerator):
    """The run's trace id, and the span id that was asked for, or else one at random."""

    def __init__(self, run_id: str) -> None:
        self._trace_id = trace_id(run_id)
        self._random = RandomIdGenerator()
        self._next: int | None = None

    def use(self, span_id: int | None) -> None:
        """Give the next span this id."""
        self._next = span_id

    def generate_trace_id(self) -> int:
        """Return the run's trace id."""
        return self._trace_id

    def generate_span_id(self) -> int:
        """Return a number of 64 bits."""
        span_id, self._next = self._next or self._random.generate_span_id(), None
        return span_id


class Tracing:
    """The spans of one step that runs dbt."""

    def __init__(self, step: Step, resource: Resource, processor: SpanProcessor | None) -> None:
        """Start the step's span. Without `processor` the ids are as valid, and nothing is kept or sent."""
        self._said = step
        self._redact = redactor()
        self._ids = DerivedIds(step.run_id)
        provider = TracerProvider(resource=resource, id_generator=self._ids, shutdown_on_exit=False)
        if processor:
            provider.add_span_processor(processor)
        # Each process of the run decides alike: the samplers of the specification look at the trace id only.
        sampled = provider.sampler.should_sample(None, trace_id(step.run_id), "run")
        recorded = sampled.decision is Decision.RECORD_AND_SAMPLE
        self._flags = TraceFlags(TraceFlags.SAMPLED if recorded else TraceFlags.DEFAULT)
        self._tracer = provider.get_tracer("floe")
        self._step = self._child(
            NonRecordingSpan(self._context(run_span_id(step.run_id))),
            f"step {step.key}",
            None,
            {"dagster.step.key": step.key},
            step.span_id,
        )
        self._command: Span | None = None
        self._ended: set[str] = set()

    def environment(self) -> dict[str, str]:
        """Return the variables that hand the trace to dbt (https://www.w3.org/TR/trace-context/)."""
        carrier: dict[str, str] = {}
        PROPAGATOR.inject(carrier, trace.set_span_in_context(NonRecordingSpan(self._context(self._said.span_id))))
        # dbt repeats variables of the second kind in each line of its JSON log and in run_results.json.
        return {"TRACEPARENT": carrier["traceparent"], "DBT_ENV_CUSTOM_ENV_TRACEPARENT": carrier["traceparent"]}

    def record(
        self,
        life: Life,
        attributes: Attributes = MappingProxyType({}),
        upstream: Iterable[str] = (),
        statements: Iterable[Statement] = (),
    ) -> None:
        """Start or end the span that `life` tells of.

        Args:
            life: What happened.
            attributes: What its spans say besides, of the node and of the warehouse.
            upstream: The unique ids of the nodes that it reads.
            statements: The SQL that ran for it, if it was asked for.
        """
        match life:
            case CommandStarted():
                said = {"dbt.invocation_id": life.invocation_id, "dbt.version": life.dbt_version or "unknown"}
                self._command = self._child(self._step, "dbt", life.at, said)
            case CommandFinished() if self._command is not None:
                _end(self._command, life.outcome, life.message, life.at)
            case NodeFinished() if self._command is not None:
                self._record_node(self._command, life, attributes, upstream, statements)

    def end(self, outcome: Outcome, message: str | None, *, run_outcome: Outcome | None) -> None:
        """End the step's span, and the run's if it is this step that ends it: with its first dbt command."""
        _end(self._step, outcome, message, None)
        if run_outcome and not self._said.call:
            outer = PROPAGATOR.extract({"traceparent": self._said.traceparent or ""}, Context())
            caller = trace.get_current_span(outer).get_span_context()
            self._ids.use(run_span_id(self._said.run_id))
            run = self._tracer.start_span(
                f"run {self._said.job_name}",
                context=Context(),
                links=[Link(caller)] if caller.is_valid else None,
                start_time=_nanoseconds(self._said.run_started_at),
                attributes=self._said.attributes,
            )
            _end(run, run_outcome, message, None)

    def _record_node(
        self,
        command: Span,
        life: NodeFinished,
        attributes: Attributes,
        upstream: Iterable[str],
        statements: Iterable[Statement],
    ) -> None:
        start, end = life.executed or (life.started.at if life.started else life.at, life.at)
        # A unit test runs before the model that it tests; of other nodes, only what this command ran has a span.
        known = [each for each in upstream if each in self._ended or life.resource_type == "unit_test"]
        links = [Link(self._context(node_span_id(life.invocation_id, unique_id))) for unique_id in known]
        own_id = node_span_id(life.invocation_id, life.unique_id)
        self._ended.add(life.unique_id)
        span = self._child(command, life.unique_id, start, {**attributes, **node_attributes(life)}, own_id, links)
        for statement in statements:
            # Clocks of dbt's log lines and of its results differ by a hair: a child stays within its parent.
            began, ended = (min(max(at, start), end) for at in (statement.started_at, statement.finished_at))
            child = self._child(span, statement.operation, began, statement_attributes(statement, attributes))
            child.end(_nanoseconds(ended))
        _end(span, life.outcome, life.message, end)

    def _child(
        self,
        parent: Span,
        name: str,
        at: datetime | None,
        attributes: Attributes,
        span_id: int | None = None,
        links: Sequence[Link] = (),
    ) -> Span:
        self._ids.use(span_id)
        return self._tracer.start_span(
            name,
            context=trace.set_span_in_context(parent, Context()),
            kind=SpanKind.CLIENT if "db.query.text" in attributes else SpanKind.INTERNAL,
            start_time=_nanoseconds(at) if at else None,
            attributes=redact_values({**self._said.attributes, **attributes}, self._redact),
            links=links,
        )

    def _context(self, span_id: int) -> SpanContext:
        return SpanContext(trace_id(self._said.run_id), span_id, is_remote=True, trace_flags=self._flags)


class Handoff(SpanProcessor):
    """Give each ended span to `put`, which sends it from another thread."""

    def __init__(self, put: Callable[[ReadableSpan], None]) -> None:
        self._put = put

    def on_end(self, span: ReadableSpan) -> None:
        """Pass a sampled span on."""
        if span.context is not None and span.context.trace_flags.sampled:
            self._put(span)


def _end(span: Span, outcome: Outcome, message: str | None, at: datetime | None) -> None:
    end_time = _nanoseconds(at) if at else None
    # As the semantic conventions have it, what is no error is left unset.
    if outcome in {Outcome.FAIL, Outcome.INTERRUPTED}:
        kind = error_type(outcome, message)
        span.set_attribute("error.type", kind)
        span.set_status(Status(StatusCode.ERROR, message))
        if message:
            said: Mapping[str, Any] = {"exception.type": kind, "exception.message": message}
            span.add_event("exception", said, timestamp=end_time)
    span.end(end_time=end_time)


def _nanoseconds(at: datetime) -> int:
    return int(at.timestamp() * 1_000_000) * 1_000
