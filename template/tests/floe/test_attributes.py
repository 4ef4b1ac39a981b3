"""The attributes of each kind of span and the metrics, which `attributes.py` lists."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import AGGREGATION_TEMPORALITY_DELTA, Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from .attributes import EXCEPTIONS, METRICS, RESOURCE, SPANS, Attributes
from .everything import OUTER_SPAN_ID, OUTER_TRACE_ID
from .runs import Sent


def as_dict(attributes: Iterable[KeyValue]) -> Attributes:
    """Return the attributes of a span, a resource or a data point."""
    return {
        attribute.key: attribute.value.string_value
        if attribute.value.HasField("string_value")
        else attribute.value.int_value
        for attribute in attributes
    }


def differences(span: str, sent: Attributes, wanted: Attributes) -> list[str]:
    """Return a line for each attribute of a span that is missing, not wanted, or different."""
    lines = [f"{span}: no {name}" for name in sorted(wanted.keys() - sent.keys())]
    lines += [f"{span}: {name}, which attributes.py does not list" for name in sorted(sent.keys() - wanted.keys())]
    both = [(name, sent[name], value) for name, value in wanted.items() if name in sent]
    return lines + [f"{span}: {name} is {value!r}, not {want!r}" for name, value, want in both if value != want]


def test_spans(sent_in_full: Sent) -> None:
    """Each kind of span has all its attributes with their values, and no other."""
    lines = [
        line
        for name, wanted in SPANS.items()
        for line in differences(name, as_dict(sent_in_full.span(name).attributes), wanted)
    ]

    assert not lines, "\n".join(lines)


def test_exceptions(sent_in_full: Sent) -> None:
    """What failed has an event that says why; nothing else has events."""
    with_event = {span.name for span in sent_in_full.spans if span.events}
    lines = []
    for name, wanted in EXCEPTIONS.items():
        [event] = sent_in_full.span(name).events
        lines += differences(f"{event.name} of {name}", as_dict(event.attributes), wanted)

    assert not lines, "\n".join(lines)
    assert with_event == {"run daily", "step dbt", "dbt", "model.shop.broken", "test.shop.fails"}
    assert {event.name for span in sent_in_full.spans for event in span.events} == {"exception"}


def test_statement(sent_in_full: Sent) -> None:
    """A statement is a client's span below its node's; all other spans are internal."""
    [statement] = [span for span in sent_in_full.spans if span.kind == Span.SPAN_KIND_CLIENT]
    kinds = Counter(span.kind for span in sent_in_full.spans)

    assert (statement.name, statement.parent_span_id) == ("CREATE", sent_in_full.span("model.shop.orders").span_id)
    assert kinds == {Span.SPAN_KIND_CLIENT: 1, Span.SPAN_KIND_INTERNAL: len(sent_in_full.spans) - 1}


def test_outer_trace(sent_in_full: Sent) -> None:
    """The run is linked to the trace from which it was started."""
    [link] = sent_in_full.span("run daily").links

    assert (link.trace_id.hex(), link.span_id.hex()) == (OUTER_TRACE_ID, OUTER_SPAN_ID)


def test_resource(sent_in_full: Sent) -> None:
    """Spans and metrics come from the same service."""
    [resource] = sent_in_full.resources

    assert as_dict(resource.attributes).items() >= RESOURCE.items()


def test_metrics(sent_in_full: Sent) -> None:
    """There is each metric with its unit, its attributes and its sum, and no other."""
    sent = {(metric.name, metric.unit): sums(metric) for metric in sent_in_full.metrics}
    lines = [
        f"{name}: {key} is {sent.get((name, unit), {}).get(key)}, not {value}"
        for (name, unit), wanted in METRICS.items()
        for key, value in wanted.items()
        if sent.get((name, unit), {}).get(key) != value
    ]

    assert sent.keys() == METRICS.keys()
    assert not lines, "\n".join(lines)


def sums(metric: Metric) -> Mapping[str, int]:
    """Return the sum, or the number, of a metric's data points by attribute; it must be that of this step alone."""
    kind = metric.histogram if metric.HasField("histogram") else metric.sum
    assert kind.aggregation_temporality == AGGREGATION_TEMPORALITY_DELTA
    total: Counter[str] = Counter()
    for point in metric.histogram.data_points:
        total.update({f"{key}={value}": point.count for key, value in as_dict(point.attributes).items()})
    for number in metric.sum.data_points:
        total.update({f"{key}={value}": number.as_int for key, value in as_dict(number.attributes).items()})
    return total
