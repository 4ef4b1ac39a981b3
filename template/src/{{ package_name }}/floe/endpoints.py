"""Where lineage and spans go: the standard OpenLineage and OpenTelemetry configuration, the answers as defaults.

Each `open_…` returns nothing where no endpoint is set, and raises what the client raises where the configuration is
wrong.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from openlineage.client import OpenLineageClient
from openlineage.client.event_v2 import RunEvent
from openlineage.client.serde import Serde
from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult, MetricsData
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from .delivery import Delivery, RefusedError, Spool
from .settings import Settings

if TYPE_CHECKING:
    from requests import Session

TIMEOUT_SECONDS = 2  # one attempt; the delivery's spool takes the place of retries
SPAN_BATCH = 512
# Statuses that will not change by sending the same event again.
REFUSALS = {400, 413, 422}

# A run's event, or one of an earlier run from the spool: (JSON, None).
LineageItem = RunEvent | str


def open_lineage(settings: Settings) -> Delivery[LineageItem] | None:
    """Return the channel for lineage events, those that the spool kept already in it."""
    client = lineage_client(settings)
    if client is None:
        return None
    spool = Spool(settings.state_dir / "lineage.ndjson")
    delivery: Delivery[LineageItem] = Delivery(
        "lineage", _sender(client), keep=lambda item: spool.keep(item if isinstance(item, str) else Serde.to_json(item))
    )
    for line in spool.take():
        delivery.put(line)
        delivery.counts.replayed += 1
    return delivery


def lineage_client(settings: Settings) -> OpenLineageClient | None:
    """Return OpenLineage's own client as openlineage.yml or OPENLINEAGE_* configure it, else for the answer's URL."""
    if os.environ.get("OPENLINEAGE_DISABLED", "").strip().lower() == "true":
        return None
    if _owner_configuration():
        return OpenLineageClient()
    if not settings.openlineage_url:
        return None
    transport: dict[str, Any] = {
        "type": "http",
        "url": settings.openlineage_url,
        "endpoint": os.environ.get("OPENLINEAGE_ENDPOINT", "api/v1/lineage"),
        "timeout": TIMEOUT_SECONDS,
        "retry": {"total": 0},
    }
    if key := os.environ.get("OPENLINEAGE_API_KEY"):
        transport["auth"] = {"type": "api_key", "apiKey": key}
    before = set(os.environ)
    try:
        return OpenLineageClient(config={"transport": transport})
    finally:
        # The client copies OPENLINEAGE_URL and the key to variables that dbt would inherit.
        for variable in set(os.environ) - before:
            del os.environ[variable]


def lineage_source(settings: Settings) -> str:
    """Return where lineage goes, and what says so, in words."""
    if owner := _owner_configuration():
        return f"as {owner} says"
    by = "OPENLINEAGE_URL" if os.environ.get("OPENLINEAGE_URL") else "floe/settings.toml"
    return f"{settings.openlineage_url} ({by})"


def _owner_configuration() -> str | None:
    """Return the file or variable by which the owner configures OpenLineage's client, if there is one."""
    files = (os.environ.get("OPENLINEAGE_CONFIG"), "openlineage.yml", "~/.openlineage/openlineage.yml")
    found = (file for file in files if file and Path(file).expanduser().is_file())
    variables = (name for name in os.environ if name.startswith("OPENLINEAGE__TRANSPORT"))
    return next(found, None) or next(variables, None)


def _sender(client: OpenLineageClient) -> Callable[[Sequence[LineageItem]], None]:
    def send(items: Sequence[LineageItem]) -> None:
        for item in items:
            try:
                if isinstance(item, str):
                    # Filtered and tagged when it was kept; transports take a dictionary as it is.
                    client.transport.emit(cast("RunEvent", json.loads(item)))
                else:
                    client.emit(item)
            except Exception as error:
                response = getattr(error, "response", None)
                if getattr(response, "status_code", None) in REFUSALS:
                    raise RefusedError(str(error)) from error
                raise

    return send


def open_spans(settings: Settings) -> Delivery[ReadableSpan] | None:
    """Return the channel for spans, by OpenTelemetry's own OTLP exporter."""
    target = otlp_target(settings, "traces")
    if target is None:
        return None
    if target.is_grpc:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter

        exporter: SpanExporter = GrpcExporter(endpoint=target.endpoint, timeout=target.timeout)
    else:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter

        exporter = HttpExporter(endpoint=target.endpoint, timeout=target.timeout, session=_session())

    def send(spans: Sequence[ReadableSpan]) -> None:
        _succeed(exporter.export(spans) is SpanExportResult.SUCCESS, target)

    return Delivery("traces", send, batch=SPAN_BATCH)


def open_metrics(settings: Settings) -> Delivery[MetricsData] | None:
    """Return the channel for metrics, by OpenTelemetry's own OTLP exporter."""
    target = otlp_target(settings, "metrics")
    if target is None:
        return None
    if target.is_grpc:
        from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as GrpcExporter

        exporter: MetricExporter = GrpcExporter(endpoint=target.endpoint, timeout=target.timeout)
    else:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as HttpExporter

        exporter = HttpExporter(endpoint=target.endpoint, timeout=target.timeout, session=_session())

    def send(items: Sequence[MetricsData]) -> None:
        for data in items:
            _succeed(exporter.export(data) is MetricExportResult.SUCCESS, target)

    return Delivery("metrics", send)


@dataclass(frozen=True, slots=True)
class OtlpTarget:
    """Where an OTLP exporter sends; `timeout` is in seconds, or nothing where a variable sets it."""

    endpoint: str
    is_grpc: bool
    timeout: int | None


def otlp_target(settings: Settings, signal: str) -> OtlpTarget | None:
    """Return where a signal goes, or nothing where it is off.

    The variables of the specification win over the answers
    (https://opentelemetry.io/docs/specs/otel/protocol/exporter/); headers and certificates the exporter reads itself.
    """
    variables = {
        name: os.environ.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_{name}") for name in ("ENDPOINT", "PROTOCOL")
    }
    if not (variables["ENDPOINT"] or settings.otlp_endpoint) or _is_off(signal):
        return None
    is_grpc = (variables["PROTOCOL"] or settings.otlp_protocol) == "grpc"
    # Only the general endpoint gets the signal's path, and only over HTTP.
    general = settings.otlp_endpoint if is_grpc else f"{settings.otlp_endpoint.rstrip('/')}/v1/{signal}"
    timed = {"OTEL_EXPORTER_OTLP_TIMEOUT", f"OTEL_EXPORTER_OTLP_{signal.upper()}_TIMEOUT"} & set(os.environ)
    return OtlpTarget(variables["ENDPOINT"] or general, is_grpc, None if timed else TIMEOUT_SECONDS)


def _session() -> Session:
    """Return an HTTP session in which OTEL_EXPORTER_OTLP_CERTIFICATE wins over REQUESTS_CA_BUNDLE."""
    import requests

    class OtlpSession(requests.Session):
        # requests itself prefers its variable to what the session was told.
        def merge_environment_settings(
            self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any
        ) -> dict[str, Any]:
            told = self.verify if verify is None else verify
            return dict(super().merge_environment_settings(url, proxies, stream, told, cert))

    return OtlpSession()


def _succeed(success: bool, target: OtlpTarget) -> None:
    if not success:
        raise ConnectionError(f"{target.endpoint} did not take it; the line above says why")


def _is_off(signal: str) -> bool:
    return (
        os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
        or os.environ.get(f"OTEL_{signal.upper()}_EXPORTER", "").strip().lower() == "none"
    )
