"""OpenTelemetry's OTLP exporters over HTTP and gRPC, each as a function that sends or raises."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.metrics.export import MetricExporter, MetricsData
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter

from ..delivery.sender import REFUSALS, THREAD_PREFIX, RefusedError
from .spool import SpooledSpan

if TYPE_CHECKING:
    from ..delivery.http_session import HttpSession

# What gRPC says of an item that it will never take.
GRPC_REFUSAL = re.compile(r"StatusCode\.INVALID_ARGUMENT|message larger than max")


@dataclass(frozen=True, slots=True)
class OtlpTarget:
    """Where an OTLP exporter sends; `timeout` is in seconds, or nothing where a variable sets it."""

    endpoint: str
    is_grpc: bool
    timeout: int | None


def send_spans(target: OtlpTarget) -> Callable[[Sequence[ReadableSpan | SpooledSpan]], None]:
    """Return what sends spans by OpenTelemetry's own OTLP exporter."""
    if target.is_grpc:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter

        session = None
        exporter: SpanExporter = GrpcExporter(endpoint=target.endpoint, timeout=target.timeout)
    else:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter

        session = _session()
        exporter = HttpExporter(endpoint=target.endpoint, timeout=target.timeout, session=session)

    def send(items: Sequence[ReadableSpan | SpooledSpan]) -> None:
        _export(exporter, [item.span if isinstance(item, SpooledSpan) else item for item in items], target, session)

    return send


def send_metrics(target: OtlpTarget) -> Callable[[Sequence[MetricsData]], None]:
    """Return what sends metrics by OpenTelemetry's own OTLP exporter."""
    if target.is_grpc:
        from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as GrpcExporter

        session = None
        exporter: MetricExporter = GrpcExporter(endpoint=target.endpoint, timeout=target.timeout)
    else:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as HttpExporter

        session = _session()
        exporter = HttpExporter(endpoint=target.endpoint, timeout=target.timeout, session=session)

    def send(items: Sequence[MetricsData]) -> None:
        for data in items:
            _export(exporter, data, target, session)

    return send


class _Overheard(logging.Filter):
    """Keeps what exporters say in a thread of `Delivery` out of the log: it is told once, when the run ends."""

    def __init__(self) -> None:
        super().__init__()
        self.by_thread: dict[str | None, str] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if not (record.threadName or "").startswith(THREAD_PREFIX):
            return True
        # Of one export, what is said first has the reason.
        self.by_thread.setdefault(record.threadName, record.getMessage())
        return False


_overheard = _Overheard()


def _export(
    exporter: SpanExporter | MetricExporter, data: Any, target: OtlpTarget, session: HttpSession | None
) -> None:
    """Export; an exporter tells only its logger why that failed: that of its class, or of one above.

    Raises:
        ConnectionError: The receiver has not taken it.
        RefusedError: The receiver will never take it.
    """
    for base in type(exporter).__mro__:
        filters = logging.getLogger(base.__module__).filters
        if _overheard not in filters:
            filters.insert(0, _overheard)  # before the exporter's own, which drops what it has said before
    thread = threading.current_thread().name
    _overheard.by_thread.pop(thread, None)
    if exporter.export(data).name == "SUCCESS":
        return
    reason = _overheard.by_thread.get(thread, "not taken")
    is_refusal = session.status in REFUSALS if session else GRPC_REFUSAL.search(reason)
    raise (RefusedError if is_refusal else ConnectionError)(f"{target.endpoint}: {reason}")


def _session() -> HttpSession:
    """Return an HTTP session in which OTEL_EXPORTER_OTLP_CERTIFICATE wins over REQUESTS_CA_BUNDLE."""
    from ..delivery.http_session import HttpSession

    class OtlpSession(HttpSession):
        # requests itself prefers its variable to what the session was told.
        def merge_environment_settings(
            self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any
        ) -> dict[str, Any]:
            verified = self.verify if verify is None else verify
            return dict(super().merge_environment_settings(url, proxies, stream, verified, cert))

    return OtlpSession()
