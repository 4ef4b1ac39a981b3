"""Spans as OTLP requests in JSON (https://opentelemetry.io/docs/specs/otlp/), which take little time to make.

OpenTelemetry's own encoder takes ten times as long, and the spans of a run whose endpoint is dead are written at its
end, within its budget.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import orjson
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags


def as_requests(spans: Iterable[ReadableSpan]) -> Iterator[str]:
    """Yield one request for each span."""
    for _, group in groupby(spans, key=lambda span: (id(span.resource), id(span.instrumentation_scope))):
        of_group = list(group)
        resource, scope = of_group[0].resource, of_group[0].instrumentation_scope
        resource_json = _text({"attributes": _key_values(resource.attributes)})
        scope_json = _text({"name": scope.name, "version": scope.version or ""} if scope else {})
        before = '{"resourceSpans":[{"resource":' + f'{resource_json},"schemaUrl":{_text(resource.schema_url)}'
        before += ',"scopeSpans":[{"scope":' + f'{scope_json},"spans":['
        for span in of_group:
            yield before + _text(_span(span)) + "]}]}]}"


def from_request(request: Mapping[str, Any]) -> ReadableSpan:
    """Return the span of a request.

    Raises:
        Exception: The request is not one of `as_requests`.
    """
    (of_resource,) = request["resourceSpans"]
    (of_scope,) = of_resource["scopeSpans"]
    (span,) = of_scope["spans"]
    scope, parent = of_scope["scope"], span["parentSpanId"]
    return ReadableSpan(
        name=span["name"],
        context=_context(span["traceId"], span["spanId"]),
        parent=_context(span["traceId"], parent) if parent else None,
        resource=Resource(_attributes(of_resource["resource"]["attributes"]), of_resource["schemaUrl"]),
        attributes=_attributes(span["attributes"]),
        events=[
            Event(event["name"], _attributes(event["attributes"]), int(event["timeUnixNano"]))
            for event in span["events"]
        ],
        links=[
            Link(_context(link["traceId"], link["spanId"]), _attributes(link["attributes"])) for link in span["links"]
        ],
        kind=SpanKind(span["kind"] - 1),  # OTLP has "unspecified" as its first kind
        status=Status(StatusCode(span["status"]["code"]), span["status"]["message"] or None),
        start_time=int(span["startTimeUnixNano"]),
        end_time=int(span["endTimeUnixNano"]),
        instrumentation_scope=InstrumentationScope(scope["name"], scope["version"] or None) if scope else None,
    )


def _text(value: Any) -> str:
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # such as half a surrogate pair
        return json.dumps(value)


def _span(span: ReadableSpan) -> dict[str, Any]:
    context = span.get_span_context()
    return {
        "traceId": f"{context.trace_id:032x}" if context else "",
        "spanId": f"{context.span_id:016x}" if context else "",
        "parentSpanId": f"{span.parent.span_id:016x}" if span.parent else "",
        "name": span.name,
        "kind": span.kind.value + 1,
        "startTimeUnixNano": str(span.start_time),
        "endTimeUnixNano": str(span.end_time),
        "attributes": _key_values(span.attributes),
        "events": [
            {
                "name": event.name,
                "timeUnixNano": str(event.timestamp),
                "attributes": _key_values(event.attributes),
            }
            for event in span.events
        ],
        "links": [
            {
                "traceId": f"{link.context.trace_id:032x}",
                "spanId": f"{link.context.span_id:016x}",
                "attributes": _key_values(link.attributes),
            }
            for link in span.links
        ],
        "status": {"code": span.status.status_code.value, "message": span.status.description or ""},
    }


def _key_values(attributes: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    return [{"key": key, "value": _any_value(value)} for key, value in (attributes or {}).items()]


def _any_value(value: Any) -> dict[str, Any]:
    match value:
        case str():
            return {"stringValue": value}
        case bool():
            return {"boolValue": value}
        case int():
            return {"intValue": str(value)}
        case float():
            return {"doubleValue": str(value)}  # a number in JSON cannot be infinite
        case Sequence() if not isinstance(value, bytes):
            return {"arrayValue": {"values": [_any_value(item) for item in value]}}
    return {"stringValue": str(value)}


def _context(trace_id: str, span_id: str) -> SpanContext:
    return SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))


def _attributes(key_values: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    return {entry["key"]: _value(entry["value"]) for entry in key_values}


def _value(value: Mapping[str, Any]) -> Any:
    ((kind, content),) = value.items()
    match kind:
        case "intValue":
            return int(content)
        case "doubleValue":
            return float(content)
        case "arrayValue":
            return [_value(item) for item in content["values"]]
    return content
