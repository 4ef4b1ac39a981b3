"""A receiver that goes wrong on demand: OpenLineage and OTLP over HTTP, OTLP over gRPC.

A proxy stands before a real receiver. Faults of the connection are the proxy's (`Fault`), those of the answer the
receiver's (`status`, `delay`).
"""

from __future__ import annotations

import gzip
import socket
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from enum import StrEnum
from pathlib import Path
from typing import Any

import grpc
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.receiver import Handler, Receiver

# What a gRPC server says where an HTTP server answers with a status.
CODES = {
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.UNIMPLEMENTED,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    500: grpc.StatusCode.INTERNAL,
    503: grpc.StatusCode.UNAVAILABLE,
}


class Fault(StrEnum):
    """What may happen to a connection."""

    NONE = "none"
    REFUSE = "refuse"
    HANG = "hang"
    DROP_SYN = "drop SYN"
    CLOSE = "close in the middle"
    GARBAGE = "garbage"


class FaultyServer(Receiver):
    """A receiver behind a proxy; `fault`, `status` and `delay` (seconds) may be set at any time by `go_wrong`."""

    def __init__(self, *, grpc: bool = False, tls: tuple[Path, Path] | None = None) -> None:
        super().__init__(tls)
        self.RequestHandlerClass = FaultyHandler
        self.fault = Fault.NONE
        self.status = 200
        self.delay = 0.0
        self._server: Any = None
        self._connections: set[socket.socket] = set()
        self._fillers: list[socket.socket] = []
        self._behind = self._serve_grpc(tls) if grpc else self.server_port
        self._listener = _listen(0)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        threading.Thread(target=self._accept, args=[self._listener], daemon=True).start()

    @property
    def url(self) -> str:
        """Return its base URL."""
        return f"http{'s' if self._tls else ''}://127.0.0.1:{self.port}"

    def go_wrong(self, fault: Fault = Fault.NONE, *, status: int = 200, delay: float = 0.0) -> None:
        """Go wrong in this way from now on, in open connections too; without arguments be well again."""
        was, self.fault = self.fault, fault
        self.status, self.delay = status, delay
        if fault in {Fault.REFUSE, Fault.DROP_SYN}:
            _shut(self._listener)
        for connection in list(self._connections):
            _reset(connection)
        if fault is Fault.DROP_SYN:
            self._listener = _listen(self.port, backlog=0)
            for _ in range(4):  # nobody accepts: once the backlog is full, the kernel answers no SYN
                filler = socket.socket()
                filler.setblocking(False)
                filler.connect_ex(("127.0.0.1", self.port))
                self._fillers.append(filler)
        elif was in {Fault.REFUSE, Fault.DROP_SYN} and fault not in {Fault.REFUSE, Fault.DROP_SYN}:
            while self._fillers:
                self._fillers.pop().close()
            _shut(self._listener)
            self._listener = _listen(self.port)
            threading.Thread(target=self._accept, args=[self._listener], daemon=True).start()

    def stop(self) -> None:
        """Close everything."""
        _shut(self._listener)
        for each in (*self._fillers, *self._connections):
            _reset(each)
        if self._server:
            self._server.stop(None)
        self.shutdown()
        self.server_close()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=self._serve, args=[connection], daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        self._connections.add(connection)
        with suppress(OSError):
            match self.fault:
                case Fault.HANG:
                    while connection.recv(65_536):
                        pass
                case Fault.CLOSE | Fault.REFUSE | Fault.DROP_SYN:  # the last two: accepted a moment before
                    connection.recv(1_000)
                    _reset(connection)
                case Fault.GARBAGE:
                    connection.recv(1_000)
                    connection.sendall(b"\x00\xff\x17 no protocol at all\r\n\r\n" * 20)
                    time.sleep(0.05)
                case _:
                    self._pass(connection)
        _shut(connection)
        self._connections.discard(connection)

    def _pass(self, connection: socket.socket) -> None:
        behind = socket.create_connection(("127.0.0.1", self._behind))
        behind.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        back = threading.Thread(target=_pump, args=[behind, connection], daemon=True)
        back.start()
        _pump(connection, behind)
        back.join(5)
        behind.close()

    def _serve_grpc(self, tls: tuple[Path, Path] | None) -> int:
        self._server = server = grpc.server(ThreadPoolExecutor(4))
        for package, request, take in (
            ("trace.v1.TraceService", ExportTraceServiceRequest, self.take_spans),
            ("metrics.v1.MetricsService", ExportMetricsServiceRequest, self.take_metrics),
        ):

            def export(told: Any, context: Any, take: Any = take) -> bytes:
                time.sleep(self.delay)
                if self.status != 200:
                    context.abort(CODES[self.status], f"status {self.status}")
                take(told)
                return b""

            handler = grpc.unary_unary_rpc_method_handler(export, request_deserializer=request.FromString)
            name = f"opentelemetry.proto.collector.{package}"
            server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, {"Export": handler}),))
        if tls:
            certificate, key = (file.read_bytes() for file in tls)
            port: int = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(key, certificate)]))
        else:
            port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        return port


class FaultyHandler(Handler):
    """Answers as the server is told to."""

    server: FaultyServer

    def do_POST(self) -> None:  # noqa: N802 - the name that http.server asks for
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        time.sleep(self.server.delay)
        status = self.server.status
        if status == 200 and not self.server.take(self.path, {}, body):
            status = 404
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()


@contextmanager
def faulty(*, grpc: bool = False, tls: tuple[Path, Path] | None = None) -> Iterator[FaultyServer]:
    """Serve until the block ends."""
    server = FaultyServer(grpc=grpc, tls=tls)
    try:
        yield server
    finally:
        server.stop()


def _listen(port: int, backlog: int = 128) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(backlog)
    return listener


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65_536):
            sink.sendall(data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def _shut(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()


def _reset(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    _shut(connection)
