"""OpenTelemetry's OTLP exporters over HTTP and gRPC, wrapped so that a failure raises an error."""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.metrics.export import MetricExporter, MetricsData
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter

from ..delivery.channel import REFUSALS, RefusedError
from ..delivery.counts import one_line
from ..delivery.diagnosis import EndpointError
from ..delivery.sender import THREAD_PREFIX

if TYPE_CHECKING:
    from ..delivery.http_session import HttpSession

# Signal -> OpenTelemetry's module within the package of a protocol, and its class.
EXPORTERS = {
    "traces": ("trace_exporter", "OTLPSpanExporter"),
    "metrics": ("metric_exporter", "OTLPMetricExporter"),
}
# Signal -> the module of its response in the package of the protocol, and its class.
RESPONSES = {
    "traces": ("trace.v1.trace_service_pb2", "ExportTraceServiceResponse"),
    "metrics": ("metrics.v1.metrics_service_pb2", "ExportMetricsServiceResponse"),
}
# Starts of the names of variables that the exporters read.
VARIABLES = ("OTEL_EXPORTER_OTLP_", "OTEL_PYTHON_")
# gRPC's error for an item that the receiver will never accept.
GRPC_REFUSAL = re.compile(r"StatusCode\.INVALID_ARGUMENT|message larger than max")


@dataclass(frozen=True, slots=True)
class OtlpTarget:
    """The target of a signal; `timeout` is in seconds."""

    signal: str
    endpoint: str
    is_grpc: bool
    timeout: float


class OtlpSender:
    """A sender of spans or metrics that uses OpenTelemetry's own OTLP exporter and raises its errors."""

    def __init__(self, target: OtlpTarget) -> None:
        """Create the exporter, which does not connect before the first `send`.

        Raises:
            EndpointError: A variable has a value that the exporter does not accept.
        """
        self._target = target
        self._session = None if target.is_grpc else _session()
        module, name = EXPORTERS[target.signal]
        # Import one of four classes, so that the libraries of the others are not loaded.
        package = f"opentelemetry.exporter.otlp.proto.{'grpc' if target.is_grpc else 'http'}.{module}"
        options = {"session": self._session} if self._session else {}
        exporter_class = getattr(import_module(package), name)
        try:
            exporter = exporter_class(endpoint=target.endpoint, timeout=target.timeout, **options)
        except Exception as error:  # the exporter raises a different error for each variable, and names none
            names = ", ".join(sorted(name for name in os.environ if name.startswith(VARIABLES)))
            message = f"one of {names or 'the OTEL_* variables'} is invalid; correct it: {one_line(error)}"
            raise EndpointError(message) from error
        self._exporter: SpanExporter | MetricExporter = exporter
        self._responses = _record_responses(exporter) if target.is_grpc else []

    def send(self, data: Sequence[ReadableSpan] | MetricsData) -> None:
        """Send spans, or metrics.

        Raises:
            ConnectionError: The receiver has not accepted them.
            RefusedError: The receiver will never accept them.
        """
        # An exporter reports the reason of a failure only to a logger, that of its own module or of a base class's.
        for base in type(self._exporter).__mro__:
            filters = logging.getLogger(base.__module__).filters
            if _captured not in filters:
                filters.insert(0, _captured)  # before the exporter's own filter, which drops repeated messages
        thread = threading.current_thread().name
        _captured.by_thread.pop(thread, None)
        self._responses.clear()
        export: Callable[[Any], Any] = self._exporter.export
        if export(data).name == "SUCCESS":
            self._check_partial_success()
            return
        reason = _captured.by_thread.get(thread, "not accepted")
        is_refusal = self._session.status in REFUSALS if self._session else GRPC_REFUSAL.search(reason)
        raise (RefusedError if is_refusal else ConnectionError)(f"{self._target.endpoint}: {reason}")

    def _check_partial_success(self) -> None:
        """Raise RefusedError if the receiver took only a part (https://opentelemetry.io/docs/specs/otlp/)."""
        try:
            if self._session and self._session.body:
                module, name = RESPONSES[self._target.signal]
                response = getattr(import_module(f"opentelemetry.proto.collector.{module}"), name)()
                if "json" in self._session.content_type:
                    parse = import_module("google.protobuf.json_format").Parse
                    parse(self._session.body, response, ignore_unknown_fields=True)
                else:
                    response.ParseFromString(self._session.body)
                partial = response.partial_success
            elif self._responses:
                partial = self._responses[-1].partial_success
            else:
                return
        except Exception:  # not OTLP: the status has decided
            return
        rejected = getattr(partial, "rejected_spans", 0) or getattr(partial, "rejected_data_points", 0)
        if rejected > 0:
            reason = partial.error_message or "no reason given"
            raise RefusedError(f"{self._target.endpoint}: {rejected} rejected: {reason}", rejected)


def _record_responses(exporter: Any) -> list[Any]:
    """Return the list to which a gRPC exporter will add its receiver's responses, which it does not return itself."""
    # These attributes are private. If a release renames them, everything is sent as before, but a response that
    # rejects a part counts as a success.
    responses: list[Any] = []
    make_stub = getattr(exporter, "_stub", None)
    if make_stub is None or not hasattr(exporter, "_client"):
        return responses

    def recording_stub(channel: Any) -> SimpleNamespace:
        stub = make_stub(channel)

        def export(*args: Any, **kwargs: Any) -> Any:
            responses.append(response := stub.Export(*args, **kwargs))
            return response

        return SimpleNamespace(Export=export)

    exporter._stub = recording_stub  # the exporter calls it again when it reconnects
    exporter._client = recording_stub(exporter._channel)
    return responses


class _MessageCapture(logging.Filter):
    """A filter that keeps exporters' messages in our threads out of the log; one line reports them at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.by_thread: dict[str | None, str] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if not (record.threadName or "").startswith(THREAD_PREFIX):
            return True
        # The first message of an export gives the reason.
        self.by_thread.setdefault(record.threadName, record.getMessage())
        return False


_captured = _MessageCapture()


def _session() -> HttpSession:
    """Return an HTTP session in which OTEL_EXPORTER_OTLP_CERTIFICATE takes precedence over REQUESTS_CA_BUNDLE."""
    from ..delivery.http_session import HttpSession

    class OtlpSession(HttpSession):
        # requests itself prefers its variable to the session's own setting.
        def merge_environment_settings(
            self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any
        ) -> dict[str, Any]:
            verified = self.verify if verify is None else verify
            return dict(super().merge_environment_settings(url, proxies, stream, verified, cert))

    return OtlpSession()
