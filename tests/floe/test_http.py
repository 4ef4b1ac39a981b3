"""Tests of lineage and OTLP with unusual HTTP answers: redirects, endless bodies, refused sizes."""

from __future__ import annotations

import gzip
import json
import logging
import os
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from openlineage.client import OpenLineageClient
from openlineage.client.event_v2 import RunState
from opentelemetry.util.re import parse_env_headers
from pipeline.floe.cli.doctor import endpoints as checks
from pipeline.floe.delivery.counts import Counts
from pipeline.floe.delivery.diagnosis import LINEAGE, EndpointError, SwitchedOffError, diagnose, explain
from pipeline.floe.delivery.limits import BUDGET_SECONDS
from pipeline.floe.lineage.endpoint import lineage_client, open_lineage
from pipeline.floe.lineage.outbox import Outbox
from pipeline.floe.lineage.transports import remove_silent
from pipeline.floe.redact import redact
from pipeline.floe.tracing.endpoint import open_metrics, open_spans, otlp_target
from pipeline.floe.tracing.spans import Handoff

from tests.faults.drive import OVER_HTTP, environment, settings
from tests.faults.server import EVERY, Fault, FaultyServer, faulty
from tests.floe.test_journal import event, soon

ITEMS = 20
AUTH = [
    {"type": "jwt", "apiKey": "planted-key"},
    {"type": "oauth2", "clientId": "floe", "clientSecret": "planted-secret"},
]


class TokenHandler(BaseHTTPRequestHandler):
    """A handler that returns a token, compressed if the client accepts that."""

    def do_POST(self) -> None:
        body = json.dumps({"token": "t", "expires_in": 3600}).encode()
        self.send_response(200)
        if "gzip" in self.headers.get("Accept-Encoding", ""):
            body = gzip.compress(body)
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Log nothing, because the output belongs to the test."""


@contextmanager
def token_endpoint() -> Iterator[str]:
    """Serve tokens inside this block."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), TokenHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/token"
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(autouse=True)
def state(tmp_path: Path) -> Iterator[None]:
    """Store unsent items in a folder of the test."""
    with environment(tmp_path / "state"):
        yield


def send(channel: str, url: str, *, items: int = ITEMS, deadline: float | None = None) -> Counts:
    """Send items to `url` as a run does; return their counts."""
    if channel == "lineage":
        box: Any = open_lineage(settings(channel, url), str(uuid4()))
        put: Callable[[int], None] = lambda number: box.put(event(number, RunState.COMPLETE))  # noqa: E731
    else:
        box = open_spans(settings(channel, url))
        put = spans_to(box.put)
    for number in range(items):
        put(number)
    return box.close(deadline or soon())


def spans_to(put: Callable[[Any], None]) -> Callable[[int], None]:
    """Return a function that makes a span of a number and puts it."""
    from opentelemetry.sdk.trace import TracerProvider

    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(Handoff(put))
    return lambda number: provider.get_tracer("test").start_span(f"span {number}").end()


@contextmanager
def header() -> Iterator[None]:
    """Add a key of the owner to requests."""
    variables = {
        "OPENLINEAGE_API_KEY": "planted-key",
        "OTEL_EXPORTER_OTLP_HEADERS": "x-api-key=planted-key",
    }
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            del os.environ[name]


@pytest.mark.parametrize("channel", OVER_HTTP)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
class TestRedirect:
    """Tests of a receiver that redirects."""

    def test_not_followed(self, channel: str, status: int) -> None:
        """Nothing is sent there or counted as sent; the reason names the address without its secret parts."""
        with faulty() as server, faulty() as other, header():
            location = f"http://user:planted@127.0.0.1:{other.port}/elsewhere?token=planted"
            server.go_wrong(status=status, location=location)
            counts = send(channel, server.url)

        assert ([], [], []) == (other.followed, other.events, other.spans)
        assert (0, ITEMS) == (counts.sent, counts.spooled)
        assert f"{status} and redirects to http://127.0.0.1:{other.port}/elsewhere" in counts.reason
        assert "planted" not in counts.reason

    def test_later(self, channel: str, status: int) -> None:
        """Once the receiver accepts events, everything arrives."""
        with faulty() as server:
            server.go_wrong(status=status)
            send(channel, server.url)
            server.go_wrong()
            counts = send(channel, server.url, items=0)

        assert [] == server.followed
        assert ITEMS == counts.replayed == len(server.events) + len(server.spans)


def test_redirect_without_location() -> None:
    """A redirect without an address is a failure as well."""
    with faulty() as server:
        server.go_wrong(status=304)
        counts = send("lineage", server.url)

    assert 0 == counts.sent
    assert "it redirects without naming an address (304): correct OPENLINEAGE_URL" == diagnose(counts.reason, LINEAGE)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("auth", AUTH, ids=[auth["type"] for auth in AUTH])
def test_redirect_of_token(auth: dict[str, str], status: int, tmp_path: Path) -> None:
    """Fetching a token follows no redirect either; the reason names the setting, and no credential is sent."""
    with faulty() as server, faulty() as tokens, faulty() as other:
        tokens.go_wrong(status=status, location=f"{other.url}/elsewhere?key=planted")
        auth = {**auth, "tokenEndpoint": f"{tokens.url}/token"}
        transport = {"type": "http", "url": server.url, "auth": auth, "retry": {"total": 0}}
        box = Outbox(OpenLineageClient(config={"transport": transport}), tmp_path / "lineage", "a-run")
        box.put(event(1))
        counts = box.close(soon())

    assert ([], [], 0) == (other.followed, server.events, counts.sent)
    assert "planted" not in counts.reason
    place = f"its token endpoint redirects to {other.url}/elsewhere ({status}), and redirects are not followed"
    assert f"{place}: correct tokenEndpoint" == diagnose(counts.reason, LINEAGE)


def test_token(tmp_path: Path) -> None:
    """A token is fetched once and sent with each event."""
    with faulty() as server, token_endpoint() as url:
        auth = {**AUTH[0], "tokenEndpoint": url}
        transport = {"type": "http", "url": server.url, "auth": auth, "retry": {"total": 0}}
        box = Outbox(OpenLineageClient(config={"transport": transport}), tmp_path / "lineage", "a-run")
        for number in range(3):
            box.put(event(number, RunState.COMPLETE))
        counts = box.close(soon())

    assert (3, 3) == (counts.sent, len(server.events))


@pytest.mark.parametrize("status", [200, 302, 404])
@pytest.mark.parametrize("fault", [Fault.ENDLESS_BODY, Fault.SLOW_BODY])
@pytest.mark.parametrize("auth", AUTH, ids=[auth["type"] for auth in AUTH])
def test_endless_token(auth: dict[str, str], fault: Fault, status: int, tmp_path: Path) -> None:
    """Of a token endpoint's response, only a limited part is read; the event stays in the journal."""
    with faulty() as server, faulty() as tokens:
        tokens.go_wrong(fault, status=302 if status == 302 else 200)
        tokens.take = lambda *_: status == 200  # type: ignore[method-assign]
        transport = {
            "type": "http",
            "url": server.url,
            "auth": {**auth, "tokenEndpoint": f"{tokens.url}/token"},
            "retry": {"total": 0},
        }
        tracemalloc.start()
        box = Outbox(OpenLineageClient(config={"transport": transport}), tmp_path / "lineage", "a-run")
        box.put(event(1, RunState.COMPLETE))
        counts = box.close(time.monotonic() + BUDGET_SECONDS)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()

    assert (0, 1) == (counts.sent, counts.spooled)
    assert peak < 20_000_000
    assert ("404 Client Error" in counts.reason) == (status == 404)


@pytest.mark.parametrize("kind", ["composite", "transform"])
def test_redirect_of_member(kind: str, tmp_path: Path) -> None:
    """A transport that forwards events to an HTTP transport follows no redirect either."""
    with faulty() as server, faulty() as other:
        server.go_wrong(status=307, location=f"{other.url}/api/v1/lineage")
        member = {"type": "http", "url": server.url, "timeout": 2, "retry": {"total": 0}}
        transport: dict[str, Any] = {"type": "composite", "transports": [member]}
        if kind == "transform":
            transport = {
                "type": "transform",
                "transformer_class": "openlineage.client.transport.transform.transformers.job_namespace_replace_"
                "transformer.JobNamespaceReplaceTransformer",
                "transformer_properties": {"new_job_namespace": "other"},
                "transport": member,
            }
        box = Outbox(OpenLineageClient(config={"transport": transport}), tmp_path / "lineage", "a-run")
        box.put(event(1))
        counts = box.close(soon())

    assert ([], 0) == (other.events, counts.sent)


@pytest.mark.parametrize("fault", [Fault.REFUSE, Fault.HANG])
def test_dead_member(fault: Fault, tmp_path: Path) -> None:
    """One dead transport of several does not keep events from the others."""
    log = tmp_path / "events.log"
    with faulty() as server:
        server.go_wrong(fault)
        transports = [{"type": "http", "url": server.url}, {"type": "file", "log_file_path": str(log), "append": True}]
        client = OpenLineageClient(config={"transport": {"type": "composite", "transports": transports}})
        box = Outbox(client, tmp_path / "lineage", "a-run")
        for number in range(2):
            box.put(event(number, RunState.COMPLETE))
        counts = box.close(time.monotonic() + BUDGET_SECONDS)

    assert (2, 2) == (counts.sent, len(log.read_text().splitlines()))


NOOP, CONSOLE = {"type": "noop"}, {"type": "console"}


@pytest.mark.parametrize(
    ("transport", "kinds"),
    [
        (NOOP, ["noop"]),
        ({"type": "composite", "transports": [NOOP, NOOP]}, ["noop"]),
        (CONSOLE, ["console"]),
        ({"type": "composite", "transports": [NOOP, CONSOLE]}, ["noop", "console"]),
    ],
)
@pytest.mark.parametrize("is_file", [False, True])
def test_silent_transport(
    transport: dict[str, Any], kinds: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, is_file: bool
) -> None:
    """A transport that sends nothing is off, with a warning and a finding that name it; nothing counts as sent."""
    name = "OPENLINEAGE_CONFIG" if is_file else "OPENLINEAGE__TRANSPORT"
    if is_file:
        (tmp_path / "openlineage.yml").write_text(json.dumps({"transport": transport}))
    monkeypatch.setenv(name, str(tmp_path / "openlineage.yml") if is_file else json.dumps(transport))
    monkeypatch.setattr(logging.getLogger(), "level", logging.WARNING)
    with pytest.raises(SwitchedOffError) as off:
        open_lineage(settings("lineage", ""), "a-run")
    finding, waiting = checks.lineage(settings("lineage", ""), soon())

    assert ("off", str(off.value), "ok") == (finding.state, finding.message, waiting.state)
    assert ("openlineage.yml" if is_file else name) in finding.message
    assert kinds == [kind for kind in ("noop", "console") if f"{kind}, which" in finding.message]


def test_console(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """In a run, whose log has level INFO, the transport `console` writes events there."""
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT__TYPE", "console")
    caplog.set_level(logging.INFO)
    box: Any = open_lineage(settings("lineage", ""), "a-run")
    box.put(event(1))

    assert 2 == box.close(soon()).sent  # with the end of the run
    assert 2 == sum("eventType" in record.getMessage() for record in caplog.records)


def test_silent_member(tmp_path: Path) -> None:
    """Beside a dead transport, one that sends nothing does not make an event count as sent."""
    with faulty() as server:
        server.go_wrong(Fault.REFUSE)
        transports = [{"type": "http", "url": server.url}, NOOP]
        client = OpenLineageClient(config={"transport": {"type": "composite", "transports": transports}})
        assert [] == remove_silent(client.transport)
        box = Outbox(client, tmp_path / "lineage", "a-run")
        box.put(event(1, RunState.COMPLETE))
        counts = box.close(time.monotonic() + BUDGET_SECONDS)

    assert (0, 1) == (counts.sent, counts.spooled)


@pytest.mark.parametrize("is_file", [False, True])
def test_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, is_file: bool) -> None:
    """The variables that the client derives from the owner's are not inherited by dbt."""
    monkeypatch.setenv("OPENLINEAGE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("OPENLINEAGE_API_KEY", "planted")
    if is_file:
        (tmp_path / "openlineage.yml").write_text("transport: {type: http, url: 'http://127.0.0.1:9'}\n")
        monkeypatch.setenv("OPENLINEAGE_CONFIG", str(tmp_path / "openlineage.yml"))
    before = dict(os.environ)

    assert lineage_client(settings("lineage", "http://127.0.0.1:9")) is not None
    assert before == dict(os.environ)


@pytest.mark.parametrize("path", ["", "/", "/api/v1/lineage", "/api/v1/lineage/"])
@pytest.mark.parametrize("base", ["", "/base", "/a/b"])
def test_path(base: str, path: str) -> None:
    """A base URL keeps its path, and a complete URL is used unchanged; `floe doctor` shows the result."""
    with faulty() as server:
        url = f"{server.url}{base}{path}"
        counts = send("lineage", url, items=1)
        finding = next(iter(checks.lineage(settings("lineage", url), soon())))

    used = f"{server.url}{base}/api/v1/lineage"
    assert bool(base) == bool(counts.spooled)  # the receiver has no such path
    assert used in (counts.reason if base else finding.message)
    assert used in finding.message


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("OTEL_TRACES_EXPORTER", "console", "set otlp or none"),
        ("OTEL_TRACES_EXPORTER", "otlp,console", "set otlp or none"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json", "set http/protobuf or grpc"),
    ],
)
def test_refused(
    variable: str, value: str, words: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An unsupported standard value is refused by name: nothing is sent, the run warns, and doctor fails."""
    monkeypatch.setenv(variable, value)
    with faulty() as server:
        told = settings("OTLP HTTP", server.url)
        assert open_spans(told) is None
        finding = next(iter(checks.traces(told, soon())))

    assert variable in caplog.text
    assert words in caplog.text
    assert ("fail", True, True) == (finding.state, variable in finding.message, words in finding.message)


NO_FILE = "/no/such/file.pem"
SECONDS = "is not a number of seconds above 0: correct it"


@pytest.mark.parametrize("channel", ["OTLP HTTP", "OTLP gRPC"])
@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "0", SECONDS),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "2s", SECONDS),
        ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "-1", SECONDS),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "nan", SECONDS),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", NO_FILE, "cannot be read (No such file or directory): correct the path"),
        ("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", __file__, "is not a certificate in PEM format: correct the path"),
        ("OTEL_EXPORTER_OTLP_CLIENT_KEY", NO_FILE, "cannot be read (No such file or directory): correct the path"),
    ],
)
def test_invalid_otlp(
    channel: str,
    variable: str,
    value: str,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The run's warning and the doctor name an invalid variable, its value and what to do."""
    monkeypatch.setenv(variable, value)
    own = settings(channel, "https://127.0.0.1:9")
    finding = next(iter(checks.traces(own, soon())))

    assert open_spans(own) is None
    assert f"{variable}={value} {words}" in caplog.text
    assert ("fail", True) == (finding.state, f"{variable}={value} {words}" in finding.message)


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd", "OTEL_EXPORTER_OTLP_COMPRESSION=zstd is not supported: set gzip"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "deflate", "=deflate is not supported: set gzip or none"),
        ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "", "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT is blank: set a number"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a=b,t0p-s3cret", "HEADERS has an entry without `=`: write name=value"),
        (
            "OTEL_EXPORTER_OTLP_HEADERS",
            'a=b,"=t0p-s3cret',
            "HEADERS: entry 2 has a character that a header",
        ),
        ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "a;b=t0p-s3cret", "HEADERS: entry 1 has a character that a header"),
    ],
)
def test_invalid_grpc(variable: str, value: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A value that the gRPC exporter cannot use is refused by name; a secret one is not repeated."""
    monkeypatch.setenv(variable, value)
    with pytest.raises(EndpointError) as error:
        otlp_target(settings("OTLP gRPC", "http://127.0.0.1:9"), "traces")

    assert words in str(error.value)
    assert "s3cret" not in str(error.value)
    assert "s3cret" not in redact("Header format invalid: t0p-s3cret") if "s3cret" in value else True


@pytest.mark.parametrize("character", [chr(code) for code in range(1, 0x100) if chr(code) != ","])
def test_headers_of_exporter(character: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A header is refused exactly if the exporter would leave it out."""
    for header in (f"a{character}b=c", f"a=b{character}c", f"a= b{character} c=d "):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", header)
        is_sent = bool(parse_env_headers(header, liberal=True))
        with nullcontext() if is_sent else pytest.raises(EndpointError):
            otlp_target(settings("OTLP gRPC", "http://127.0.0.1:9"), "traces")


@pytest.mark.parametrize(
    ("variable", "value"), [("OTEL_EXPORTER_OTLP_INSECURE", "banana"), ("OTEL_PYTHON_METER_PROVIDER", "foo")]
)
def test_refused_by_exporter(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An invalid value, of which OpenTelemetry says little, switches the signal off; run and doctor name it."""
    monkeypatch.setenv(variable, value)
    own = settings("OTLP gRPC", "127.0.0.1:9")
    finding = next(iter(checks.traces(own, soon())))

    assert open_spans(own) is None
    assert variable in caplog.text
    assert ("fail", True) == (finding.state, variable in finding.message), finding.message


def test_certificate_without_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without TLS, no certificate is read, and a blank timeout counts as unset."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", NO_FILE)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "")
    with faulty() as server:
        assert ITEMS == send("OTLP HTTP", server.url).sent


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"TIMEOUT": "abc"}, f"OPENLINEAGE__TRANSPORT__TIMEOUT=abc {SECONDS}"),
        ({"TIMEOUT": "0"}, f"OPENLINEAGE__TRANSPORT__TIMEOUT=0 {SECONDS}"),
        ({"VERIFY": NO_FILE}, f"OPENLINEAGE__TRANSPORT__VERIFY={NO_FILE} does not exist: set it to the file"),
        ({"AUTH": '{"apiKey": t0p-s3cret}'}, "OPENLINEAGE__TRANSPORT__AUTH is not valid JSON; correct it: Expecting"),
        ({"COMPRESSION": "zstd"}, "OPENLINEAGE__TRANSPORT__COMPRESSION, OPENLINEAGE__TRANSPORT__TYPE, OPENLINEAGE__T"),
    ],
)
def test_invalid_lineage(
    variables: dict[str, str], words: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The doctor names an invalid variable of OpenLineage and what to do, but no secret."""
    for name, value in {"TYPE": "http", "URL": "http://127.0.0.1:9", **variables}.items():
        monkeypatch.setenv(f"OPENLINEAGE__TRANSPORT__{name}", value)
    finding = next(iter(checks.lineage(settings("lineage", ""), soon())))

    assert ("fail", True) == (finding.state, words in finding.message), finding.message
    assert "t0p-s3cret" not in finding.message + caplog.text


def test_other_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The URL is not blamed for another variable."""
    monkeypatch.setenv("OPENLINEAGE__FILTERS", "x")
    with pytest.raises(EndpointError, match=r"^OPENLINEAGE__FILTERS is invalid; correct it: .*config"):
        lineage_client(settings("lineage", "http://127.0.0.1:9"))


@pytest.mark.parametrize("is_file", [False, True])
def test_invalid_tags(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, is_file: bool) -> None:
    """Tags that the client would refuse with every event are refused by name, in a run and by the doctor."""
    place = str(tmp_path / "openlineage.yml") if is_file else "OPENLINEAGE__TAGS"
    if is_file:
        Path(place).write_text("transport: {type: http, url: 'http://127.0.0.1:9'}\ntags: {job: 5}\n")
        monkeypatch.setenv("OPENLINEAGE_CONFIG", place)
    else:
        monkeypatch.setenv(place, '{"job": 5}')
    own = settings("lineage", "http://127.0.0.1:9")
    finding = next(iter(checks.lineage(own, soon())))

    with pytest.raises(EndpointError, match=f"^{place} is invalid; correct it: AttributeError"):
        open_lineage(own, "a-run")
    assert ("fail", True) == (finding.state, f"{place} is invalid" in finding.message)


@pytest.mark.parametrize("channel", OVER_HTTP)
@pytest.mark.parametrize("status", [200, 503, 302, 400])
class TestBody:
    """Tests of a response with an endless body."""

    def test_endless(self, channel: str, status: int) -> None:
        """Little of the body is read into memory, whatever the status."""
        with faulty() as server:
            server.go_wrong(Fault.ENDLESS_BODY, status=status)
            tracemalloc.start()
            began = time.monotonic()
            counts = send(channel, server.url)
            took = time.monotonic() - began
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()

        assert (ITEMS if status == 200 else 0) == counts.sent
        assert peak < 20_000_000  # a second of such a body is 100 MB and more
        assert took < 8

    def test_slow(self, channel: str, status: int) -> None:
        """A slow body causes little delay, because the status has arrived and decides."""
        with faulty() as server:
            server.go_wrong(Fault.SLOW_BODY, status=status)
            began = time.monotonic()
            counts = send(channel, server.url)
            took = time.monotonic() - began

        assert (ITEMS if status == 200 else 0) == counts.sent
        assert took < 8


@pytest.mark.parametrize("channel", OVER_HTTP)
def test_connection_is_kept(channel: str) -> None:
    """Short bodies are read to their end, so that all requests share a connection."""
    with faulty() as server:
        accepted = count_connections(server)
        for _ in range(2):
            send(channel, server.url)

    assert 2 == len(accepted)


def count_connections(server: FaultyServer) -> list[object]:
    """Return a list that grows with each connection that a client opens."""
    accepted: list[object] = []
    serve = server._serve

    def counting(connection: Any) -> None:
        accepted.append(connection)
        serve(connection)

    server._serve = counting  # type: ignore[method-assign]
    return accepted


@pytest.mark.parametrize("channel", OVER_HTTP)
def test_too_large(channel: str) -> None:
    """An event too large for the receiver is dropped and counted; a batch of spans is sent in smaller ones."""
    with faulty() as server:
        server.go_wrong(status=413, only=EVERY, larger_than=1_000)
        counts = send(channel, server.url)

    assert (ITEMS, 0, 0) == (counts.sent, counts.spooled, counts.dropped)
    assert ITEMS == len(server.events) + len(server.spans)


@contextmanager
def answering(raw: bytes, requests: list[str] | None = None) -> Iterator[str]:
    """Serve a receiver that writes `raw` as its answer to each request, and keeps the connection open.

    The headers of each request are added to `requests`.
    """

    class Answer(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            if requests is not None:
                requests.append(str(self.headers))
            self.wfile.write(raw)

        def log_message(self, *_: Any) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def answer(status: int, body: bytes = b"", **headers: str) -> bytes:
    """Return an HTTP response."""
    names = {"Content-Length": str(len(body)), **{name.replace("_", "-"): value for name, value in headers.items()}}
    lines = [f"HTTP/1.1 {status} Reason", *(f"{name}: {value}" for name, value in names.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body


@contextmanager
def partial_grpc(answer: Any) -> Iterator[str]:
    """Serve an OTLP receiver over gRPC that always returns `answer`."""
    import grpc
    from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2_grpc as metrics
    from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as traces

    server = grpc.server(ThreadPoolExecutor(1))
    servicer: Any = SimpleNamespace(Export=lambda _, __: answer)
    add: Any = traces.add_TraceServiceServicer_to_server
    if "Metrics" in type(answer).__name__:
        add = metrics.add_MetricsServiceServicer_to_server
    add(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


@pytest.mark.parametrize("signal", ["traces", "metrics"])
@pytest.mark.parametrize("channel", ["OTLP HTTP", "OTLP gRPC"])
def test_partial_success(channel: str, signal: str) -> None:
    """What the receiver rejects although it answers with success counts as dropped, with its reason."""
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

    response: Any = ExportTraceServiceResponse() if signal == "traces" else ExportMetricsServiceResponse()
    if signal == "traces":
        response.partial_success.rejected_spans = 2
    else:
        response.partial_success.rejected_data_points = 2
    response.partial_success.error_message = "older than a day"
    raw = answer(200, response.SerializeToString())
    with partial_grpc(response) if channel == "OTLP gRPC" else answering(raw) as url:
        if signal == "traces":
            counts = send(channel, url)
            expected = (ITEMS - 2, 2)
        else:
            counts = send_metrics(channel, url)
            expected = (0, 1)

    assert expected == (counts.sent, counts.dropped)
    assert "2 rejected: older than a day" in counts.reason


def test_grpc_core(project: Path) -> None:
    """The core of gRPC writes no lines of its own to the log, unless the owner asks for them."""
    code = (
        "import socket, sys, threading\n"
        "import pipeline.floe.settings\n"
        "from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter\n"
        "import logging; logging.disable()\n"
        "server = socket.create_server(('127.0.0.1', 0))\n"
        "def garble():\n"
        "    connection = server.accept()[0]\n"
        "    connection.sendall(b'HTTP/1.1 400 Bad\\r\\n\\r\\n')\n"
        "threading.Thread(target=garble, daemon=True).start()\n"
        "OTLPSpanExporter(f'https://127.0.0.1:{server.getsockname()[1]}', timeout=1).export([])\n"
    )
    own = {name: value for name, value in os.environ.items() if name != "GRPC_VERBOSITY"}
    written = []
    for verbosity in ({}, {"GRPC_VERBOSITY": "INFO"}):
        variables = {**own, "PYTHONPATH": str(project / "src"), **verbosity}
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, env=variables, stderr=subprocess.PIPE, text=True, check=True)
        written.append(done.stderr)

    assert "" == written[0]
    assert "Handshake failed" in written[1]


def send_metrics(channel: str, url: str) -> Counts:
    """Send the metrics of a step to `url`; return their counts."""
    from opentelemetry.sdk.resources import Resource
    from pipeline.floe.tracing.metrics import Metrics

    delivery: Any = open_metrics(settings(channel, url))
    metrics = Metrics(Resource({}))
    metrics.record_lineage(Counts(sent=1))
    delivery.put(metrics.collect())
    return delivery.close(soon())


@pytest.mark.parametrize("url", ["http://h/api/v1/lineage?tenant=7", "http://h/?tenant=7", "http://h/base#x"])
def test_query(url: str) -> None:
    """A query, which OpenLineage's client would lose, is refused; so is one to which OTLP's path would be added."""
    with pytest.raises(EndpointError, match=r"OPENLINEAGE_URL=.* has a query or a fragment"):
        lineage_client(settings("lineage", url))
    with pytest.raises(EndpointError, match="set OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
        otlp_target(settings("OTLP HTTP", url.replace("#", "?")), "traces")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            "ConnectionError: HTTPSConnectionPool(host='h', port=443): Max retries exceeded with url: /api/v1/lineage "
            "(Caused by NewConnectionError(\"HTTPSConnection(host='h', port=443): [Errno 111] Connection refused\"))",
            "https://h:443/api/v1/lineage: nothing is listening there",
        ),
        ("ReadTimeout: HTTPConnectionPool(host='h', port=5000): Read timed out.", "http://h:5000: no answer in time"),
        ("HTTPError: 404 Client Error: Not Found for url: http://h/x", "http://h/x: it has no such path (404)"),
        ("ReadTimeout: HTTPConnectionPool(host='::1', port=5000): Read timed out.", "http://[::1]:5000: no answer"),
        ("InvalidHeader: Content-Length contained multiple unmatching values (3, 5)", "its answer has two different"),
        ("TimeoutError: another process is sending the events in /x/lineage", "another process is sending the events"),
        ("ValueError: something else", "ValueError: something else"),
    ],
)
def test_explained(error: str, words: str) -> None:
    """An error is explained by its address and its cause; one that is not known stays as it is."""
    assert explain(error, LINEAGE).startswith(words)
