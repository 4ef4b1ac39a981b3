"""Where lineage and spans go: the standard OpenLineage and OpenTelemetry configuration, the answers as defaults.

Each `open_…` returns nothing where no endpoint is set, and raises what the client raises where the configuration is
wrong.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

from openlineage.client import OpenLineageClient
from openlineage.client.event_v2 import RunEvent
from openlineage.client.serde import Serde
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from .delivery import Delivery, RefusedError, Spool
from .settings import Settings

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
    if _is_configured_by_owner():
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


def _is_configured_by_owner() -> bool:
    files = (os.environ.get("OPENLINEAGE_CONFIG"), "openlineage.yml", "~/.openlineage/openlineage.yml")
    return any(name.startswith("OPENLINEAGE__TRANSPORT") for name in os.environ) or any(
        Path(file).expanduser().is_file() for file in files if file
    )


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
    """Return the channel for spans."""
    exporter = span_exporter(settings)
    if exporter is None:
        return None

    def send(spans: Sequence[ReadableSpan]) -> None:
        if exporter.export(spans) is not SpanExportResult.SUCCESS:
            msg = f"the OTLP endpoint {settings.otlp_endpoint} took no spans"
            raise ConnectionError(msg)

    return Delivery("traces", send, batch=SPAN_BATCH)


def span_exporter(settings: Settings) -> SpanExporter | None:
    """Return OpenTelemetry's own OTLP exporter; the OTEL_* variables that it reads win over the answer."""
    told = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    if not (told or settings.otlp_endpoint) or _is_off():
        return None
    protocol = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", settings.otlp_protocol)
    timed = {"OTEL_EXPORTER_OTLP_TIMEOUT", "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT"} & set(os.environ)
    timeout = None if timed else TIMEOUT_SECONDS
    if protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc import trace_exporter as grpc

        return grpc.OTLPSpanExporter(endpoint=told or settings.otlp_endpoint, timeout=timeout)
    from opentelemetry.exporter.otlp.proto.http import trace_exporter as http

    # Only the general endpoint gets the signal's path (the specification of the OTLP exporter, "Endpoint URLs").
    return http.OTLPSpanExporter(endpoint=told or f"{settings.otlp_endpoint.rstrip('/')}/v1/traces", timeout=timeout)


def _is_off() -> bool:
    return (
        os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
        or os.environ.get("OTEL_TRACES_EXPORTER", "").strip().lower() == "none"
    )
