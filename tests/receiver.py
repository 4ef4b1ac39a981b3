"""A real endpoint on loopback for OpenLineage events and OTLP spans, over HTTP."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span


class Receiver(ThreadingHTTPServer):
    """Keeps what it is sent, in order: `events` as dictionaries, `spans` and `metrics` as OTLP's own messages."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.events: list[dict[str, Any]] = []
        self.spans: list[Span] = []
        self.metrics: list[Metric] = []

    @property
    def url(self) -> str:
        """Return its base URL."""
        return f"http://127.0.0.1:{self.server_port}"

    def take(self, path: str, body: bytes) -> bool:
        """Keep a request's content; say whether the path is one of those that clients use."""
        if path == "/api/v1/lineage":
            self.events.append(json.loads(body))
        elif path == "/v1/traces":
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                for scope in resource.scope_spans:
                    self.spans.extend(scope.spans)
        elif path == "/v1/metrics":
            for told in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                for group in told.scope_metrics:
                    self.metrics.extend(group.metrics)
        else:
            return False
        return True


class Handler(BaseHTTPRequestHandler):
    """Answers 200 to what the receiver takes and 404 to the rest."""

    server: Receiver
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        self.send_response(200 if self.server.take(self.path, body) else 404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing: the output belongs to the test."""


@contextmanager
def receiver() -> Iterator[Receiver]:
    """Serve until the block ends."""
    server = Receiver()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
