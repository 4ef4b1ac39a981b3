"""A receiver with faults on demand, for OpenLineage and OTLP over HTTP and for OTLP over gRPC.

A proxy stands before a real receiver. Faults of the connection are the proxy's (`Fault`); those of the answer are the
receiver's (`status` and the like, `Fault.ENDLESS_BODY`, `Fault.SLOW_BODY`).
"""

from __future__ import annotations

import gzip
import socket
import struct
import threading
import time
from collections.abc import Container, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from enum import StrEnum
from pathlib import Path
from typing import Any

import grpc
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tools.receiver import Handler, Receiver

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


class Every:
    """A container of every number."""

    def __contains__(self, _: object) -> bool:
        """Return True."""
        return True


EVERY: Container[int] = Every()


class Fault(StrEnum):
    """A fault of a connection."""

    NONE = "none"
    REFUSE = "refuse"
    HANG = "hang"
    DROP_SYN = "drop SYN"
    CLOSE = "close in the middle"
    GARBAGE = "garbage"
    ENDLESS_BODY = "endless body"
    SLOW_BODY = "slow body"


class FaultyServer(Receiver):
    """A receiver behind a proxy, whose faults `go_wrong` sets.

    Attributes:
        answered: How many requests it has answered since it last went wrong.
        body_bytes: How much of its bodies, endless or slow, it could write.
        followed: Headers of each request that has followed a redirect to `/elsewhere`.
    """

    def __init__(self, *, grpc: bool = False, tls: tuple[Path, Path] | None = None) -> None:
        super().__init__(tls)
        self.RequestHandlerClass = FaultyHandler
        self.fault = Fault.NONE
        self.status = 200
        self.delay = 0.0
        self.only = EVERY
        self.larger_than = 0
        self.location = ""
        self.answered = 0
        self.body_bytes = 0
        self.followed: list[dict[str, str]] = []
        self._counting = threading.Lock()
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
        """Return the base URL of the server."""
        return f"http{'s' if self._tls else ''}://127.0.0.1:{self.port}"

    def go_wrong(
        self,
        fault: Fault = Fault.NONE,
        *,
        status: int = 200,
        delay: float = 0.0,
        only: Container[int] = EVERY,
        larger_than: int = 0,
        location: str = "",
    ) -> None:
        """Set a fault from now on, also for open connections; without arguments, work normally again.

        Args:
            fault: What happens to connections and bodies.
            status: Answer in place of 200, or of what gRPC has for it.
            delay: Seconds before an answer.
            only: Numbers of the requests, from 0 on, that get the status.
            larger_than: Bytes up to which a request does not get the status.
            location: Target of a redirect; another path of this server if there is none.
        """
        was, self.fault = self.fault, fault
        self.status, self.delay, self.only, self.larger_than = status, delay, only, larger_than
        self.location = location or f"{self.url}/elsewhere"
        self.answered = self.body_bytes = 0
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

    def next_status(self, size: int) -> int:
        """Return the status for a request of `size` bytes, and count it."""
        with self._counting:
            number, self.answered = self.answered, self.answered + 1
        return self.status if number in self.only and size > self.larger_than else 200

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
        # `stop` may have closed the connection already, so the next lines may raise.
        with socket.create_connection(("127.0.0.1", self._behind)) as behind:
            behind.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            back = threading.Thread(target=_pump, args=[behind, connection], daemon=True)
            back.start()
            _pump(connection, behind)
            back.join(5)

    def _serve_grpc(self, tls: tuple[Path, Path] | None) -> int:
        self._server = server = grpc.server(ThreadPoolExecutor(4))
        for package, request, take in (
            ("trace.v1.TraceService", ExportTraceServiceRequest, self.take_spans),
            ("metrics.v1.MetricsService", ExportMetricsServiceRequest, self.take_metrics),
        ):

            def export(told: Any, context: Any, take: Any = take) -> bytes:
                time.sleep(self.delay)
                status = self.next_status(told.ByteSize())
                if status == 413:  # as a server says it that has a limit
                    context.abort(CODES[status], "Received message larger than max")
                if status != 200:
                    context.abort(CODES[status], f"status {status}")
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
    """A handler that answers as the server is configured."""

    server: FaultyServer

    def do_POST(self) -> None:  # noqa: N802 - the name that http.server asks for
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        headers = {name.lower(): value for name, value in self.headers.items()}
        if self.path == "/elsewhere":
            self.do_GET()
            return
        time.sleep(self.server.delay)
        status = self.server.next_status(len(body))
        if status == 200 and not self.server.take(self.path, headers, body):
            status = 404
        self.send_response(status)
        if status in {301, 302, 303, 307, 308}:
            self.send_header("Location", self.server.location)
        if self.server.fault in {Fault.ENDLESS_BODY, Fault.SLOW_BODY}:
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            with suppress(OSError):
                self.send_body(slow=self.server.fault is Fault.SLOW_BODY)
            self.close_connection = True
        else:
            self.send_header("Content-Length", "0")
            self.end_headers()

    def do_GET(self) -> None:  # noqa: N802 - the name that http.server asks for
        """Answer a client that has followed a redirect with success, as a web site does."""
        self.server.followed.append({name.lower(): value for name, value in self.headers.items()})
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def send_body(self, *, slow: bool) -> None:
        """Write an endless body, as fast as the client reads it or one byte at a time."""
        data = b"x" if slow else b"x" * 65_536
        while True:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
            self.server.body_bytes += len(data)
            time.sleep(0.2 if slow else 0)


@contextmanager
def faulty(*, grpc: bool = False, tls: tuple[Path, Path] | None = None) -> Iterator[FaultyServer]:
    """Serve inside this block."""
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
