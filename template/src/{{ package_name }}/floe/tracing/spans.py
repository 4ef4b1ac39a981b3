"""The spans of a run and its steps, of dbt commands, nodes and SQL statements, and of assets and checks in Python.

There is one trace per Dagster run: run > step > dbt command > node > SQL statement (if requested), and run > step >
asset or check. dbt's spans have dbt's own times. In all processes of a run, the parent of the steps is the run's span,
whose id `ids.py` derives from the run's id. The last step to end sends that span. The attributes of spans are in
`attributes.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

import dagster as dg
from opentelemetry import context, trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from ..assets.catalog import StepAssets
from ..assets.results import Materialized, Result
from ..dbt.node_events import CommandFinished, CommandStarted, DbtEvent, NodeFinished, Outcome
from ..faults import detail
from ..ids import node_span_id, run_span_id, trace_id
from ..redact import redact_values, redactor
from ..step import Step, trace_environment
from .attributes import (
    Attributes,
    Statement,
    asset_attributes,
    code_attributes,
    error_type,
    node_attributes,
    result_attributes,
    statement_attributes,
    step_attributes,
)
from .sampler import HashedIdSampler

CHECK_FAILED = "the check did not pass"
CHECK_ERROR = "asset_check"
PROPAGATOR = TraceContextTextMapPropagator()


class DerivedIds(IdGenerator):
    """A generator of the run's trace id and of span ids, either requested or random."""

    def __init__(self, run_id: str) -> None:
        self._trace_id = trace_id(run_id)
        self._random = RandomIdGenerator()
        self._next: int | None = None

    def use(self, span_id: int | None) -> None:
        """Use this id for the next span."""
        self._next = span_id

    def generate_trace_id(self) -> int:
        """Return the run's trace id."""
        return self._trace_id

    def generate_span_id(self) -> int:
        """Return the requested id, or a random number of 64 bits."""
        span_id, self._next = self._next or self._random.generate_span_id(), None
        return span_id


class RunTracerProvider(TracerProvider):
    """A tracer provider with derived ids, whose sampler decides alike in every process of a run."""

    def __init__(self, resource: Resource, ids: DerivedIds) -> None:
        super().__init__(resource=resource, id_generator=ids, shutdown_on_exit=False)
        self.sampler = HashedIdSampler(self.sampler)

    def _handle_fork(self) -> None:
        """Do nothing in a forked process, which sends no spans.

        OpenTelemetry would start threads there to read the process's resources, and wait for them. A worker of
        `multiprocessing.Pool` that is terminated meanwhile would never end, and neither would the asset.
        """


class SpanBuilder:
    """A builder of the spans of one step."""

    def __init__(
        self,
        step: Step,
        resource: Resource,
        processor: SpanProcessor,
        started_at: datetime | None = None,
        prices: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        """Start the step's span, by default now; `processor` receives each span that ends.

        With `prices`, those of `settings.toml`, spans have the cost of their nodes.
        """
        self._run_step = step
        self._prices = prices
        self._shared = step_attributes(step)
        self._redact = redactor()
        self._ids = DerivedIds(step.run_id)
        provider = RunTracerProvider(resource, self._ids)
        provider.add_span_processor(processor)
        # Every process of the run makes the same decision, because the specification's samplers use only the trace id.
        sampled = provider.sampler.should_sample(None, trace_id(step.run_id), "run")
        recorded = sampled.decision is Decision.RECORD_AND_SAMPLE
        self._flags = TraceFlags(TraceFlags.SAMPLED if recorded else TraceFlags.DEFAULT)
        self._tracer = provider.get_tracer("floe")
        self._step = self._child(
            NonRecordingSpan(self._context(run_span_id(step.run_id))),
            f"step {step.key}",
            started_at,
            {"dagster.step.key": step.key},
            step.span_id,
        )
        self._put = processor.on_end
        self._began_at: datetime | None = None
        self._asset: Span | None = None  # of a step with one asset, in which the asset's code runs
        self._has_ended = False
        self._commands: dict[str, Span] = {}  # by dbt's invocation id
        self._ended: set[tuple[str, str]] = set()  # invocation id and unique id

    @property
    def trace_id(self) -> int:
        """Return the id of the run's trace."""
        return trace_id(self._run_step.run_id)

    def begin(self, assets: StepAssets) -> Callable[[], AbstractContextManager[Any]]:
        """Describe the step's code; return what makes its span current: the asset's, if the step has one asset."""
        self._began_at = datetime.now(UTC)
        for name, value in redact_values(code_attributes(assets), self._redact).items():
            self._step.set_attribute(name, value)
        if len(assets.specs) == 1:
            key = assets.specs[0].key
            self._asset = self._child(self._step, asset_span_name(key), self._began_at, asset_attributes(key))
        return _ResumedContext(self._asset or self._step)

    def adopt(self, span: ReadableSpan) -> None:
        """Send the span of another library with those of the step, unless the step has ended."""
        if not self._has_ended:
            self._put(span)

    def environment(self) -> dict[str, str]:
        """Return the variables that pass the trace to dbt."""
        return trace_environment(self._run_step, is_sampled=self._flags.sampled)

    def record(
        self,
        event: DbtEvent,
        attributes: Attributes = MappingProxyType({}),
        upstream: Iterable[str] = (),
        statements: Iterable[Statement] = (),
    ) -> None:
        """Start or end the span that `event` belongs to.

        Args:
            event: The event.
            attributes: Further attributes of its spans, from the node and the warehouse.
            upstream: Unique ids of the nodes that its node reads.
            statements: SQL statements of its node, if they were requested.
        """
        match event:
            case CommandStarted():
                command_attributes = {
                    "dbt.invocation_id": event.invocation_id,
                    "dbt.version": event.dbt_version or "unknown",
                }
                self._commands[event.invocation_id] = self._child(self._step, "dbt", event.at, command_attributes)
            case CommandFinished() if command := self._commands.pop(event.started.invocation_id, None):
                _end(command, event.outcome, event.message, event.at)
            case NodeFinished() if command := self._commands.get(event.invocation_id):
                self._record_node(command, event, attributes, upstream, statements)

    def end(
        self,
        outcome: Outcome,
        message: str | None,
        *,
        run_outcome: Outcome | None,
        run_message: str | None = None,
        error: str | None = None,
        run_error: str | None = None,
        results: Sequence[Result] = (),
        at: datetime | None = None,
    ) -> None:
        """End the step's span, by default now, and also the run's if this step ends the run.

        Args:
            outcome: Outcome of the step.
            message: Reason if it did not succeed.
            run_outcome: Outcome of the run, if this step ends it.
            run_message: Reason if the run did not succeed.
            error: Class of the step's exception, if any.
            run_error: Class of the exception that failed the run, if any.
            results: What the step's own code has materialized and checked, in order.
            at: Time of the end.
        """
        detail(self._record_results, results)
        if self._asset:
            _end(self._asset, outcome, message, at, error)
        _end(self._step, outcome, message, at, error)
        self._has_ended = True
        if run_outcome:
            self._ids.use(run_span_id(self._run_step.run_id))
            run = self._tracer.start_span(
                f"run {self._run_step.display_name}",
                context=Context(),
                links=self._run_links(),
                start_time=_nanoseconds(self._run_step.run_started_at),
                attributes=redact_values(self._shared, self._redact),
            )
            _end(run, run_outcome, run_message, at, run_error)

    def _record_results(self, results: Sequence[Result]) -> None:
        """Make the span of each asset and check, from the previous one's end, or the start of the code, to its own."""
        started_at = self._began_at
        for result in results:
            outcome, attributes = Outcome.SUCCESS, result_attributes(result)
            if isinstance(result, Materialized):
                name = asset_span_name(result.key)
                if self._asset:
                    for key, value in redact_values(attributes, self._redact).items():
                        self._asset.set_attribute(key, value)
                    started_at = result.at
                    continue
            else:
                name = f"check {result.key.asset_key.to_user_string()}:{result.key.name}"
                outcome = Outcome.FAIL if not result.passed and result.severity == "error" else outcome
            span = self._child(self._step, name, started_at, attributes)
            _end(span, outcome, CHECK_FAILED if outcome is Outcome.FAIL else None, result.at, CHECK_ERROR)
            started_at = result.at

    def _run_links(self) -> list[Link]:
        """Return links to the span that started the run, and to the run that it repeats, which has its own trace."""
        outer = PROPAGATOR.extract({"traceparent": self._run_step.traceparent or ""}, Context())
        linked = [trace.get_current_span(outer).get_span_context()]
        if repeated := self._run_step.parent_run_id:
            linked.append(SpanContext(trace_id(repeated), run_span_id(repeated), is_remote=True))
        return [Link(context) for context in linked if context.is_valid]

    def _record_node(
        self,
        command: Span,
        event: NodeFinished,
        attributes: Attributes,
        upstream: Iterable[str],
        statements: Iterable[Statement],
    ) -> None:
        start, end = event.executed or (event.started.at if event.started else event.at, event.at)
        # A unit test runs before the model that it tests. Of other upstream nodes, only those that this command ran
        # have spans to link to.
        known = [
            unique_id
            for unique_id in upstream
            if (event.invocation_id, unique_id) in self._ended or event.resource_type == "unit_test"
        ]
        links = [Link(self._context(node_span_id(event.invocation_id, unique_id))) for unique_id in known]
        own_id = node_span_id(event.invocation_id, event.unique_id)
        self._ended.add((event.invocation_id, event.unique_id))
        own = detail(node_attributes, event, self._prices) or {}
        span = self._child(command, event.unique_id, start, {**attributes, **own}, own_id, links)
        for statement in statements:
            detail(self._record_statement, span, statement, attributes, (start, end), event.message)
        _end(span, event.outcome, event.message, end)

    def _record_statement(
        self,
        parent: Span,
        statement: Statement,
        attributes: Attributes,
        within: tuple[datetime, datetime],
        message: str | None,
    ) -> None:
        # The times in dbt's log lines and results differ slightly. Keep the child within its parent.
        start, end = within
        began, ended = (min(max(at, start), end) for at in (statement.started_at, statement.finished_at))
        child = self._child(parent, statement.operation, began, statement_attributes(statement, attributes))
        _end(child, Outcome.FAIL if statement.has_failed else Outcome.SUCCESS, message, ended)

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
            attributes=redact_values({**self._shared, **attributes}, self._redact),
            links=links,
        )

    def _context(self, span_id: int) -> SpanContext:
        return SpanContext(trace_id(self._run_step.run_id), span_id, is_remote=True, trace_flags=self._flags)


def asset_span_name(key: dg.AssetKey) -> str:
    """Return the name of an asset's span."""
    return f"asset {key.to_user_string()}"


class Handoff(SpanProcessor):
    """A processor that passes each ended span to `put`, which sends it from another thread."""

    def __init__(self, put: Callable[[ReadableSpan], None]) -> None:
        self._put = put

    def on_end(self, span: ReadableSpan) -> None:
        """Pass on a span if it is sampled."""
        if span.context is not None and span.context.trace_flags.sampled:
            self._put(span)


def _end(span: Span, outcome: Outcome, message: str | None, at: datetime | None, error: str | None = None) -> None:
    end_time = _nanoseconds(at) if at else None
    # Per the semantic conventions, the status stays unset if there is no error.
    if outcome in {Outcome.FAIL, Outcome.INTERRUPTED}:
        kind = detail(error_type, outcome, message, error) or f"dbt.{outcome}"
        span.set_attribute("error.type", kind)
        span.set_status(Status(StatusCode.ERROR, message))
        if message:
            exception: Mapping[str, Any] = {"exception.type": kind, "exception.message": message}
            span.add_event("exception", exception, timestamp=end_time)
    span.end(end_time=end_time)


def _nanoseconds(at: datetime) -> int:
    return int(at.timestamp() * 1_000_000) * 1_000


class _ResumedContext:
    """The context in which the step's code runs, with its span; code that yields continues in the context that it left.

    The span is not ended here: the end of the step sets the status, with the exception that Dagster has recorded.
    """

    def __init__(self, span: Span) -> None:
        self._span = span
        self._left: Context | None = None

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Make the context current."""
        token = context.attach(self._left or trace.set_span_in_context(self._span))
        try:
            yield
        finally:
            self._left = context.get_current()
            context.detach(token)
