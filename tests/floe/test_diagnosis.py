"""Tests of the words for errors whose cause is not the receiver: proxies, token endpoints, headers, certificates."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from openlineage.client.event_v2 import RunState
from pipeline.floe.cli.doctor import endpoints as checks
from pipeline.floe.delivery.diagnosis import explain
from pipeline.floe.delivery.sender import THREAD_PREFIX
from pipeline.floe.lineage.endpoint import lineage_hints, open_lineage
from pipeline.floe.tracing.endpoint import otlp_hints

from tests.faults.drive import environment, settings
from tests.faults.server import faulty
from tests.floe.test_http import AUTH, send
from tests.floe.test_journal import event, soon
from tools.engines.certificates import write_certificate


@pytest.fixture(autouse=True)
def state(tmp_path: Path) -> Iterator[None]:
    """Store unsent items in a folder of the test."""
    with environment(tmp_path / "state"):
        yield


def reasons(channel: str, url: str) -> tuple[str, str]:
    """Return the reason that a run gives for what it has not sent, and the doctor's finding."""
    if channel == "lineage":
        box: Any = open_lineage(settings(channel, url), "a-run")
        box.put(event(1, RunState.COMPLETE))
        counts = box.close(soon())
        hints = lineage_hints()
    else:
        counts = send(channel, url, items=1)
        hints = otlp_hints("traces")
    check = checks.lineage if channel == "lineage" else checks.traces
    with ThreadPoolExecutor(1, THREAD_PREFIX) as executor:  # the errors of exporters are read in our threads
        finding = executor.submit(lambda: next(iter(check(settings(channel, url), soon())))).result()
    assert 0 == counts.sent
    assert "fail" == finding.state
    return explain(counts.last_error, hints), finding.message


@pytest.mark.parametrize("channel", ["lineage", "OTLP HTTP"])
@pytest.mark.parametrize(
    ("proxy", "words"),
    [
        ("http://user:planted@127.0.0.1:9", "the proxy does not work: correct HTTP_PROXY=http://127.0.0.1:9, or add"),
        ("http:///", "the proxy does not work: correct HTTP_PROXY=http:///, or add"),
    ],
)
def test_proxy(channel: str, proxy: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that does not work is blamed rather than the receiver, whose address stays as it is."""
    for name in ("http_proxy", "no_proxy", "NO_PROXY", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTP_PROXY", proxy)
    run, doctor = reasons(channel, "http://lineage.example:5000")

    assert words in run
    assert words in doctor
    assert "nothing is listening" not in run + doctor
    assert "127.0.0.1:9http" not in run
    assert "planted" not in run


def test_proxy_with_sign_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that wants credentials is named with its variable."""
    for name in ("http_proxy", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with faulty() as server:
        server.go_wrong(status=407)
        monkeypatch.setenv("HTTP_PROXY", server.url)
        run, doctor = reasons("lineage", "http://lineage.example:5000")

    assert f"the proxy asks for credentials (407): correct HTTP_PROXY={server.url}" in run
    assert f"the proxy asks for credentials (407): correct HTTP_PROXY={server.url}" in doctor


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (400, "it does not accept the credentials (400): correct `auth` in "),
        (401, "it does not accept the credentials (401): correct `auth` in "),
        (404, "it has no such path (404): correct tokenEndpoint"),
        (503, "it answered with a server error (503)"),
    ],
)
@pytest.mark.parametrize("auth", AUTH, ids=[auth["type"] for auth in AUTH])
def test_token(auth: dict[str, str], status: int, words: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A failing token endpoint is named rather than the receiver, which was never called."""
    with faulty() as server, faulty() as tokens:
        tokens.go_wrong(status=status)
        transport = {"type": "http", "url": server.url, "auth": {**auth, "tokenEndpoint": f"{tokens.url}/token"}}
        file = tmp_path / "openlineage.yml"
        file.write_text(json.dumps({"transport": transport}))
        monkeypatch.setenv("OPENLINEAGE_CONFIG", str(file))
        run, doctor = reasons("lineage", "")

    expected = f"no token from {tokens.url}/token: {words}"
    assert run.startswith(expected), run
    assert expected in doctor


@pytest.mark.parametrize("kind", ["key", "header"])
def test_header(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A character that HTTP does not allow is blamed on the variable, without its value."""
    variable, channel = ("OPENLINEAGE_API_KEY", "lineage")
    if kind == "header":
        variable, channel = "OTEL_EXPORTER_OTLP_HEADERS", "OTLP HTTP"
    monkeypatch.setenv(variable, "planted-€" if kind == "key" else "x-key=planted%0aplanted")
    with faulty() as server:
        run, doctor = reasons(channel, server.url)

    for message in (run, doctor):
        assert "a header has a character that HTTP does not allow" in message
        assert f"correct {variable}" in message
        assert "planted" not in message


@pytest.mark.parametrize("channel", ["lineage", "OTLP HTTP"])
def test_bundle(channel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing file of certificate authorities is named with its variable."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nope.pem")
    run, doctor = reasons(channel, "https://127.0.0.1:9")

    assert "the file /nope.pem does not exist: correct REQUESTS_CA_BUNDLE" in run
    assert "the file /nope.pem does not exist: correct REQUESTS_CA_BUNDLE" in doctor


@pytest.mark.parametrize("goes_on", [True, False])
def test_composite(monkeypatch: pytest.MonkeyPatch, *, goes_on: bool) -> None:
    """The reason why no transport of several has sent an event is that of its members."""
    with faulty() as server:
        server.go_wrong(status=401)
        transport = {
            "type": "composite",
            "continue_on_failure": goes_on,
            "transports": [{"type": "http", "url": server.url}],
        }
        monkeypatch.setenv("OPENLINEAGE__TRANSPORT", json.dumps(transport))
        run, doctor = reasons("lineage", "")

    assert "it does not accept the key (401)" in run
    assert "it does not accept the key (401)" in doctor


TYPE, URL = "OPENLINEAGE__TRANSPORT__TYPE", "OPENLINEAGE__TRANSPORT__URL"
MEMBER = "OPENLINEAGE__TRANSPORT__TRANSPORTS__A__"


@pytest.mark.parametrize(
    ("variables", "file", "place"),
    [
        ({TYPE: "http", URL: "{url}"}, "", f"correct {URL}"),
        ({TYPE: "composite", f"{MEMBER}TYPE": "http", f"{MEMBER}URL": "{url}"}, "", f"correct {MEMBER}URL"),
        ({"OPENLINEAGE__TRANSPORT": '{"type": "http", "url": "{url}"}'}, "", "correct `url` in OPENLINEAGE__TRANSPORT"),
        ({"OPENLINEAGE_URL": "{url}"}, "filters: []", "correct OPENLINEAGE_URL"),
        ({}, "transport: {type: http, url: '{url}'}", "correct `url` in {file}"),
    ],
    ids=["variable", "variable of a member", "JSON", "file without transport", "file"],
)
def test_place(
    variables: dict[str, str], file: str, place: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The place to correct is the one that decides where events go."""
    path = tmp_path / "openlineage.yml"
    with faulty() as server:
        server.go_wrong(status=307)
        for name, value in variables.items():
            monkeypatch.setenv(name, value.replace("{url}", server.url))
        if file:
            path.write_text(file.replace("{url}", server.url))
            monkeypatch.setenv("OPENLINEAGE_CONFIG", str(path))
        run, doctor = reasons("lineage", "http://unused.invalid")

    expected = place.replace("{file}", str(path))
    assert run.endswith(expected), run
    assert doctor.endswith(expected), doctor
    assert (str(path) in doctor) == ("{file}" in place)


def test_client_certificate(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A receiver that wants a client certificate is not said to need another protocol only."""
    certificate, key = write_certificate(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    tls.load_verify_locations(certificate)
    tls.verify_mode = ssl.CERT_REQUIRED
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", str(certificate))
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    monkeypatch.setattr(server, "handle_error", lambda *_: None)
    server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        run, doctor = reasons("OTLP HTTP", f"https://127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        server.server_close()

    for message in (run, doctor):
        assert "client certificate: set OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and" in message
