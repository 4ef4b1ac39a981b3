"""The spool of spans that could not be sent: OTLP requests (https://opentelemetry.io/docs/specs/otlp/) in a journal."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from ..delivery.journal import Journal, claimed


@dataclass(frozen=True, slots=True)
class SpooledSpan:
    """A span of an earlier run with its position in the spool."""

    span: ReadableSpan
    journal: Journal
    offset: int


class SpanSpool:
    """The spans in one folder that are waiting to be sent."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def append(self, items: Sequence[ReadableSpan | SpooledSpan]) -> int:
        """Write spans to disk for the next run, except for those already there; return the number written."""
        from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

        try:
            journal = Journal.create(self._folder, uuid4().hex[:8])
        except OSError:
            return 0
        lines = (
            json.dumps({"otlp": b64encode(encode_spans([item]).SerializeToString()).decode()})
            for item in items
            if isinstance(item, ReadableSpan)
        )
        written = sum(journal.append(line) is not None for line in lines)
        journal.close()
        return written

    def backlog(self) -> Iterator[SpooledSpan]:
        """Yield the spans that earlier runs could not send, oldest first."""
        for journal in claimed(self._folder):
            try:
                lines = list(journal.read())
                for line in (line for line in lines if line.is_waiting):
                    try:
                        span = _span(b64decode((line.content or {})["otlp"]))
                    except Exception:  # the line is torn
                        journal.acknowledge(line.offset)
                    else:
                        yield SpooledSpan(span, journal, line.offset)
                journal.settle()
            finally:
                journal.close()

    def acknowledge(self, items: Sequence[ReadableSpan | SpooledSpan]) -> None:
        """Mark spooled spans as no longer waiting."""
        for item in items:
            if isinstance(item, SpooledSpan):
                item.journal.acknowledge(item.offset)


def _span(request: bytes) -> ReadableSpan:
    from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

    (of_resource,) = TracesData.FromString(request).resource_spans
    (of_scope,) = of_resource.scope_spans
    (span,) = of_scope.spans
    return ReadableSpan(
        name=span.name,
        context=_context(span.trace_id, span.span_id),
        parent=_context(span.trace_id, span.parent_span_id) if span.parent_span_id else None,
        resource=Resource(_attributes(of_resource.resource.attributes), of_resource.schema_url),
        attributes=_attributes(span.attributes),
        events=[Event(event.name, _attributes(event.attributes), event.time_unix_nano) for event in span.events],
        links=[Link(_context(link.trace_id, link.span_id), _attributes(link.attributes)) for link in span.links],
        kind=SpanKind(span.kind - 1),  # OTLP has "unspecified" as its first kind
        status=Status(StatusCode(span.status.code), span.status.message or None),
        start_time=span.start_time_unix_nano,
        end_time=span.end_time_unix_nano,
        instrumentation_scope=InstrumentationScope(of_scope.scope.name, of_scope.scope.version or None),
    )


def _context(trace_id: bytes, span_id: bytes) -> SpanContext:
    flags = TraceFlags(TraceFlags.SAMPLED)
    return SpanContext(int.from_bytes(trace_id, "big"), int.from_bytes(span_id, "big"), False, flags)


def _attributes(entries: Iterable[Any]) -> Mapping[str, Any]:
    return {entry.key: _value(entry.value) for entry in entries}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    return [_value(item) for item in value.array_value.values] if kind == "array_value" else getattr(value, kind)
