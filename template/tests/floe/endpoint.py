"""A receiver of lineage and OTLP over HTTP on this machine, which can also redirect, hang or never end."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span

HANG_SECONDS = 60  # unless the test ends before


class Endpoint(ThreadingHTTPServer):
    """Keeps what it takes.

    Attributes:
        events: OpenLineage events, in the order of their arrival.
        spans: Spans as OTLP has them.
        metrics: Metrics as OTLP has them.
        texts: The texts that the webhook at the path `/hook` takes.
        resources: The resources of spans and metrics, without repetitions.
        requests: The path of each request, whatever came of it.
        redirects_to: Base URL to which it redirects each request, taking none.
        status: The status of its answers; with one that is not 200 it takes none.
        hangs: Whether it takes requests and never answers.
        is_endless: Whether its answers never end.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.events: list[dict[str, Any]] = []
        self.spans: list[Span] = []
        self.metrics: list[Metric] = []
        self.texts: list[str] = []
        self.resources: list[Resource] = []
        self.requests: list[str] = []
        self.redirects_to = ""
        self.status = 200
        self.hangs = False
        self.is_endless = False
        self.closed = threading.Event()

    @property
    def url(self) -> str:
        """Return its base URL."""
        return f"http://127.0.0.1:{self.server_port}"

    def take(self, path: str, body: bytes) -> None:
        """Keep the content of a request."""
        if path == "/api/v1/lineage":
            self.events.append(json.loads(body))
        elif path == "/hook":
            self.texts.append(json.loads(body)["text"])
        elif path == "/v1/traces":
            for spans in ExportTraceServiceRequest.FromString(body).resource_spans:
                self.take_resource(spans.resource)
                for scope in spans.scope_spans:
                    self.spans.extend(scope.spans)
        elif path == "/v1/metrics":
            for metrics in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                self.take_resource(metrics.resource)
                for metric_scope in metrics.scope_metrics:
                    self.metrics.extend(metric_scope.metrics)

    def take_resource(self, resource: Resource) -> None:
        """Keep a resource that it has not seen yet."""
        if resource not in self.resources:
            self.resources.append(resource)


class _Handler(BaseHTTPRequestHandler):
    server: Endpoint
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Answer a request."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.requests.append(self.path)
        if self.server.hangs:
            self.server.closed.wait(HANG_SECONDS)
            self.close_connection = True
            return
        if self.server.redirects_to:
            self.send_response(307)
            self.send_header("Location", f"{self.server.redirects_to}{self.path}")
        else:
            if self.server.status == 200:
                self.server.take(self.path, body)
            self.send_response(self.server.status)
        if self.server.is_endless:
            self.answer_without_end()
            return
        self.send_header("Content-Length", "0")
        self.end_headers()

    def answer_without_end(self) -> None:
        """Send one byte after the other until the client hangs up."""
        self.close_connection = True
        self.end_headers()
        with suppress(OSError):
            while not self.server.closed.wait(0.05):
                self.wfile.write(b" ")

    def log_message(self, *_: Any) -> None:
        """Print nothing."""


@contextmanager
def serve() -> Iterator[Endpoint]:
    """Serve an endpoint until the block ends."""
    server = Endpoint()
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield server
    finally:
        server.closed.set()
        server.shutdown()
        server.server_close()


def dead_url() -> str:
    """Return a URL at which nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"
