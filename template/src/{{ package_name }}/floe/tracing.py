"""The life of a node -> OpenTelemetry spans, with dbt's own times.

One trace a Dagster run, its trace id the run id: step > dbt command > node. Attributes follow the semantic
conventions for databases (https://opentelemetry.io/docs/specs/semconv/database/); what they lack is called `dbt.*`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from .events import CommandFinished, CommandStarted, Life, NodeFinished, NodeStarted, Outcome

ERRORS = {Outcome.FAIL, Outcome.INTERRUPTED}


class RunTraceId(IdGenerator):
    """Trace ids that are a Dagster run id, so that all processes of a run meet in one trace."""

    def __init__(self, run_id: str) -> None:
        self._trace_id = UUID(run_id).int
        self._random = RandomIdGenerator()

    def generate_trace_id(self) -> int:
        """Return the run id as a number of 128 bits."""
        return self._trace_id

    def generate_span_id(self) -> int:
        """Return a random number of 64 bits."""
        return self._random.generate_span_id()


class Tracing:
    """The spans of one step that runs dbt."""

    def __init__(
        self,
        run_id: str,
        service_name: str,
        step: str,
        attributes: Mapping[str, Any],
        processor: SpanProcessor | None,
    ) -> None:
        """Start the step's span. Without `processor` the ids are as valid, and nothing is kept."""
        provider = TracerProvider(
            resource=Resource.create({"service.name": service_name}),
            id_generator=RunTraceId(run_id),
            shutdown_on_exit=False,
        )
        if processor:
            provider.add_span_processor(processor)
        self._tracer = provider.get_tracer("floe")
        self._attributes = attributes
        self._step = self._tracer.start_span(f"step {step}", attributes=dict(attributes))
        self._command: Span | None = None
        self._command_attributes: dict[str, Any] = {}

    @property
    def span_id(self) -> str:
        """Return the id of the step's span, 16 hexadecimal digits."""
        return trace.format_span_id(self._step.get_span_context().span_id)

    def environment(self) -> dict[str, str]:
        """Return the variables that hand the trace to dbt (https://www.w3.org/TR/trace-context/)."""
        carrier: dict[str, str] = {}
        TraceContextTextMapPropagator().inject(carrier, trace.set_span_in_context(self._step))
        traceparent = carrier["traceparent"]
        # dbt repeats the second in each line of its JSON log and in run_results.json.
        return {"TRACEPARENT": traceparent, "DBT_ENV_CUSTOM_ENV_TRACEPARENT": traceparent}

    def record(self, life: Life, node: Mapping[str, Any]) -> None:
        """Start or end the spans that `life` tells of; `node` is the manifest's entry of its node, or empty."""
        match life:
            case CommandStarted():
                self._command = self._child(self._step, "dbt", life.at, {"dbt.invocation_id": life.invocation_id})
            case CommandFinished() if self._command is not None:
                _end(self._command, life.outcome, life.message, life.at)
            case NodeFinished() if self._command is not None:
                start = life.started.at if life.started else life.at
                span = self._child(self._command, life.unique_id, start, self._node_attributes(life, node))
                _end(span, life.outcome, life.message, life.at)
            case NodeStarted():
                pass

    def end(self, message: str | None) -> None:
        """End the step's span."""
        _end(self._step, Outcome.FAIL if message else Outcome.SUCCESS, message, None)

    def _child(self, parent: Span, name: str, at: datetime, attributes: Mapping[str, Any]) -> Span:
        return self._tracer.start_span(
            name,
            context=trace.set_span_in_context(parent),
            kind=SpanKind.INTERNAL,
            start_time=_nanoseconds(at),
            attributes={**self._attributes, **attributes},
        )

    def _node_attributes(self, life: NodeFinished, node: Mapping[str, Any]) -> dict[str, Any]:
        said = {
            "dbt.invocation_id": life.invocation_id,
            "dbt.unique_id": life.unique_id,
            "dbt.resource_type": life.resource_type,
            "dbt.status": life.status,
            "dbt.materialized": node.get("config", {}).get("materialized"),
            "dbt.failures": life.failures,
            "dbt.rows_affected": life.response.get("rows_affected"),
            "dbt.query_id": life.response.get("query_id"),
            "db.namespace": ".".join(part for part in (node.get("database"), node.get("schema")) if part),
            "db.collection.name": node.get("alias") or node.get("name"),
            "code.file.path": node.get("original_file_path"),
        }
        return {name: value for name, value in said.items() if value not in (None, "")}


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
    if outcome in ERRORS:
        span.set_attribute("error.type", outcome.value)
        span.set_status(Status(StatusCode.ERROR, message))
        if message:
            span.add_event("exception", {"exception.message": message, "exception.type": "dbt"}, timestamp=end_time)
    span.end(end_time=end_time)


def _nanoseconds(at: datetime) -> int:
    return int(at.timestamp() * 1_000_000) * 1_000
