"""A real endpoint on loopback: OpenLineage over HTTP, OTLP over HTTP and gRPC, with or without TLS."""

from __future__ import annotations

import gzip
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span


class Receiver(ThreadingHTTPServer):
    """Keeps what it is sent, in order: `events` as dictionaries, the rest as OTLP's own messages.

    `resources` are those of the spans, and `headers` those of each OTLP request, their names in lower case.
    """

    def __init__(self, tls: tuple[Path, Path] | None = None, *, mutual: bool = False) -> None:
        """Listen; `tls` are the files of a certificate and its key, with `mutual` asked of the client too."""
        super().__init__(("127.0.0.1", 0), Handler)
        self.events: list[dict[str, Any]] = []
        self.spans: list[Span] = []
        self.metrics: list[Metric] = []
        self.resources: list[Resource] = []
        self.headers: list[dict[str, str]] = []
        self._tls = tls
        self._mutual = mutual
        self._close_grpc: Callable[[], object] = lambda: None
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            if mutual:
                context.verify_mode = ssl.CERT_REQUIRED
                context.load_verify_locations(tls[0])
            self.socket = context.wrap_socket(self.socket, server_side=True)

    @property
    def url(self) -> str:
        """Return its base URL."""
        return f"http{'s' if self._tls else ''}://127.0.0.1:{self.server_port}"

    @cached_property
    def grpc_url(self) -> str:
        """Return the URL of its gRPC port, which is open from the first call on; needs grpcio."""
        import grpc
        from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2_grpc as metrics
        from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as traces

        services: tuple[tuple[Any, Callable[[Any], None], Any], ...] = (
            (traces.add_TraceServiceServicer_to_server, self.take_spans, ExportTraceServiceResponse()),
            (metrics.add_MetricsServiceServicer_to_server, self.take_metrics, ExportMetricsServiceResponse()),
        )
        server = grpc.server(ThreadPoolExecutor(2))
        for add, take, response in services:

            def export(request: Any, context: Any, take: Any = take, response: Any = response) -> Any:
                self.headers.append({name.lower(): str(value) for name, value in context.invocation_metadata()})
                take(request)
                return response

            add(SimpleNamespace(Export=export), server)
        if self._tls:
            certificate, key = (file.read_bytes() for file in self._tls)
            asked = {"root_certificates": certificate, "require_client_auth": True} if self._mutual else {}
            port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(key, certificate)], **asked))
        else:
            port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        self._close_grpc = lambda: server.stop(None).wait()
        return f"http{'s' if self._tls else ''}://127.0.0.1:{port}"

    def take(self, path: str, headers: dict[str, str], body: bytes) -> bool:
        """Keep an HTTP request's content; say whether the path is one of those that clients use."""
        if path == "/api/v1/lineage":
            self.events.append(json.loads(body))
            return True
        self.headers.append(headers)
        if path == "/v1/traces":
            self.take_spans(ExportTraceServiceRequest.FromString(body))
        elif path == "/v1/metrics":
            self.take_metrics(ExportMetricsServiceRequest.FromString(body))
        else:
            return False
        return True

    def take_spans(self, request: ExportTraceServiceRequest) -> None:
        """Keep spans."""
        for told in request.resource_spans:
            self.resources.append(told.resource)
            for scope in told.scope_spans:
                self.spans.extend(scope.spans)

    def take_metrics(self, request: ExportMetricsServiceRequest) -> None:
        """Keep metrics."""
        for told in request.resource_metrics:
            for scope in told.scope_metrics:
                self.metrics.extend(scope.metrics)

    def server_close(self) -> None:
        """Close both ports."""
        self._close_grpc()
        super().server_close()


class Handler(BaseHTTPRequestHandler):
    """Answers 200 to what the receiver takes and 404 to the rest."""

    server: Receiver
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.send_response(200 if self.server.take(self.path, headers, body) else 404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing: the output belongs to the test."""


@contextmanager
def receiver(tls: tuple[Path, Path] | None = None, *, mutual: bool = False) -> Iterator[Receiver]:
    """Serve until the block ends; the arguments are those of `Receiver`."""
    server = Receiver(tls, mutual=mutual)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
