"""The checks of the lineage, trace and metric endpoints, which also send what earlier runs could not send."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterator
from datetime import UTC, datetime
from urllib.parse import urljoin
from uuid import uuid4

from openlineage.client import OpenLineageClient
from openlineage.client.event_v2 import Job, Run, RunEvent, RunState
from openlineage.client.serde import Serde
from openlineage.client.transport.http import HttpTransport
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricsData
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider

from ...delivery.counts import one_line
from ...delivery.diagnosis import EndpointError, SwitchedOffError, diagnose
from ...delivery.journal import all_run
from ...lineage.endpoint import journal_folder, lineage_client, lineage_hints, transport_owner
from ...lineage.outbox import replay
from ...lineage.transports import sender
from ...redact import redact
from ...settings import Settings
from ...tracing.endpoint import open_spans, otlp_hints, otlp_target, resource_of, span_folder
from ...tracing.exporters import OtlpSender, OtlpTarget
from ...tracing.spans import Handoff
from .finding import Finding, origin, request_leaves
from .off import switched_off, waiting

SPARE_SECONDS = 0.5  # the part of the deadline that is left for reporting the result


def lineage(settings: Settings, deadline: float) -> Iterator[Finding]:
    """Send a test event and the waiting events."""
    folder = journal_folder(settings)
    try:
        client = lineage_client(settings)
    except SwitchedOffError as off:
        yield Finding("lineage", "off", str(off))
        yield from waiting("lineage", "events", folder)
        return
    except EndpointError as error:
        yield Finding("lineage", "fail", str(error))
        return
    if client is None:
        yield from switched_off(settings, "lineage")
        return
    send = sender(client.transport)

    def try_it() -> None:
        now, run = datetime.now(UTC).isoformat(), Run(str(uuid4()))
        for state in (RunState.START, RunState.COMPLETE):
            event = RunEvent(eventTime=now, eventType=state, run=run, job=Job(settings.namespace, "floe.doctor"))
            send(Serde.to_json(event))

    works = yield from _tried("lineage", lineage_source(client), "a test event", try_it, lineage_hints())
    latest = min(deadline, request_leaves()) - SPARE_SECONDS
    # Dagster is not asked here, so what other hosts have left is not touched.
    counts = replay(client.transport, folder, latest, is_running=all_run) if works else None
    yield from waiting("lineage", "events", folder, counts)


def traces(settings: Settings, deadline: float) -> Iterator[Finding]:
    """Send a test span and the waiting spans."""
    folder = span_folder(settings)
    try:
        target = otlp_target(settings, "traces")
        otlp = OtlpSender(target) if target else None
    except EndpointError as error:
        yield Finding("traces", "fail", str(error))
        return
    if target is None or otlp is None:
        yield from switched_off(settings, "traces")
        return
    spans: list[ReadableSpan] = []
    provider = TracerProvider(resource=resource_of(settings), shutdown_on_exit=False)
    provider.add_span_processor(Handoff(spans.append))
    provider.get_tracer("floe").start_span("floe.doctor").end()
    if not spans:
        yield Finding("traces", "warn", f"OTEL_TRACES_SAMPLER={os.environ.get('OTEL_TRACES_SAMPLER')} records no span")
        return
    source = _otlp_source(target, "traces")
    works = yield from _tried("traces", source, "a test span", lambda: otlp.send(spans), otlp_hints("traces"))
    channel = open_spans(settings) if works else None
    latest = min(deadline, request_leaves()) - SPARE_SECONDS
    yield from waiting("traces", "spans", folder, channel.close(latest) if channel else None)


def metrics(settings: Settings, _: float) -> Iterator[Finding]:
    """Send a test metric."""
    try:
        target = otlp_target(settings, "metrics")
        otlp = OtlpSender(target) if target else None
    except EndpointError as error:
        yield Finding("metrics", "fail", str(error))
        return
    if target is None or otlp is None:
        yield from switched_off(settings, "metrics")
        return
    reader = InMemoryMetricReader()
    meter = MeterProvider([reader], resource=resource_of(settings), shutdown_on_exit=False).get_meter("floe")
    meter.create_counter("floe.doctor").add(1)
    data: MetricsData | None = reader.get_metrics_data()
    if data:
        source = _otlp_source(target, "metrics")
        yield from _tried("metrics", source, "a test metric", lambda: otlp.send(data), otlp_hints("metrics"))


def _tried(
    check: str, source: str, what: str, send: Callable[[], None], words: dict[str, str]
) -> Generator[Finding, None, bool]:
    began = time.monotonic()
    request_leaves()
    try:
        send()
    except Exception as error:  # a client may raise any error
        yield Finding(check, "fail", f"{source}: {diagnose(one_line(error), words)}", str(error))
        return False
    yield Finding(check, "ok", f"{source} accepted {what} in {1000 * (time.monotonic() - began):.0f} ms")
    return True


def lineage_source(client: OpenLineageClient) -> str:
    """Return where the events go, and the setting that decides it."""
    transport = client.transport
    url = urljoin(transport.url, transport.endpoint) if isinstance(transport, HttpTransport) else None
    source = transport_owner() or origin("OPENLINEAGE_URL")
    return f"{redact(str(url or getattr(transport, 'url', None) or transport.kind))} ({source})"


def _otlp_source(target: OtlpTarget, signal: str) -> str:
    names = [f"OTEL_EXPORTER_OTLP_{part}" for part in (f"{signal.upper()}_ENDPOINT", "ENDPOINT")]
    kinds = [f"OTEL_EXPORTER_OTLP_{part}" for part in (f"{signal.upper()}_PROTOCOL", "PROTOCOL")]
    kind = "gRPC" if target.is_grpc else "HTTP"
    return f"{redact(target.endpoint)} ({origin(*names)}), {kind} ({origin(*kinds)})"
