"""Tests of what counts as sent: only what a receiver has accepted."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from openlineage.client import OpenLineageClient
from openlineage.client.event_v2 import RunState
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from pipeline.floe.delivery.diagnosis import LINEAGE, OTLP, explain
from pipeline.floe.lineage.endpoint import open_lineage
from pipeline.floe.lineage.outbox import Outbox

from tests.faults.drive import OVER_HTTP, environment, settings
from tests.faults.server import faulty
from tests.floe.test_http import answer, answering, partial_grpc, send
from tests.floe.test_journal import event, soon

ITEMS = 3
REPLACE = "openlineage.client.transport.transform.JobNamespaceReplaceTransformer"


def asynchronous(kind: str, url: str) -> dict[str, Any]:
    """Return a transport that would report each event as sent and then send it in the background."""
    member = {"type": "async_http", "url": url}
    composite = {"type": "composite", "transports": [member]}
    transports: dict[str, dict[str, Any]] = {
        "alone": member,
        "composite": composite,
        "composite by name": {"type": "composite", "transports": {"a": member}},
        "nested": {"type": "composite", "transports": [composite]},
        "transform": {
            "type": "transform",
            "transformer_class": REPLACE,
            "transformer_properties": {"new_job_namespace": "other"},
            "transport": member,
        },
        "datadog": {
            "type": "datadog",
            "apiKey": "planted-key",
            "site": url,
            "async_transport_rules": {"*": {"*": True}},
        },
    }
    return transports[kind]


@pytest.mark.parametrize("status", [200, 503])
@pytest.mark.parametrize("kind", ["alone", "composite", "composite by name", "nested", "transform", "datadog"])
def test_asynchronous(kind: str, status: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An event counts as sent once the receiver has accepted it, wherever the configuration asks for background."""
    with environment(tmp_path / "state"), faulty() as server:
        server.go_wrong(status=status)
        monkeypatch.setenv("OPENLINEAGE__TRANSPORT", json.dumps(asynchronous(kind, server.url)))
        box: Any = open_lineage(settings("lineage", ""), "a-run")
        box.put(event(1, RunState.COMPLETE))
        counts = box.close(soon())

    assert (1, 0) == ((counts.sent, counts.spooled) if status == 200 else (counts.spooled, counts.sent))
    assert (status == 200) == len(server.events)


def test_asynchronous_by_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The same holds for a transport that is configured by one variable per value."""
    with environment(tmp_path / "state"), faulty() as server:
        server.go_wrong(status=503)
        monkeypatch.setenv("OPENLINEAGE__TRANSPORT__TYPE", "composite")
        monkeypatch.setenv("OPENLINEAGE__TRANSPORT__TRANSPORTS__A__TYPE", "async_http")
        monkeypatch.setenv("OPENLINEAGE__TRANSPORT__TRANSPORTS__A__URL", server.url)
        box: Any = open_lineage(settings("lineage", ""), "a-run")
        box.put(event(1, RunState.COMPLETE))
        counts = box.close(soon())

    assert (0, 1) == (counts.sent, counts.spooled)


HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"


@pytest.mark.parametrize("channel", OVER_HTTP)
@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n", 101),
        (HINTS, 103),
        (HINTS + answer(503), 103),
        (HINTS + answer(200), 103),
        (answer(600), 600),
        (answer(999), 999),
        (answer(200), 200),
        (answer(206), 206),
    ],
    ids=["101", "103", "103 then 503", "103 then 200", "600", "999", "200", "206"],
)
def test_status(channel: str, raw: bytes, status: int, tmp_path: Path) -> None:
    """Only a status from 200 to 299 is a success; the reason names any other one and the setting."""
    with environment(tmp_path / "state"), answering(raw) as url:
        counts = send(channel, url, items=ITEMS)

    if 200 <= status < 300:
        assert (ITEMS, 0) == (counts.sent, counts.spooled)
        return
    assert (0, ITEMS) == (counts.sent, counts.spooled)
    explained = explain(counts.reason, LINEAGE if channel == "lineage" else OTLP)
    assert explained.startswith(f"{url}/"), explained
    variable = "OPENLINEAGE_URL" if channel == "lineage" else "OTEL_EXPORTER_OTLP_ENDPOINT"
    assert f"it answered {status}, which is neither a success nor an error: check that {variable} " in explained


@pytest.mark.parametrize("channel", OVER_HTTP)
def test_cookies(channel: str, tmp_path: Path) -> None:
    """Cookies are neither stored nor sent back, because a receiver could add to them without limit."""
    requests: list[str] = []
    raw = answer(200, Set_Cookie="planted=1; Path=/")
    with environment(tmp_path / "state"), answering(raw, requests) as url:
        counts = send(channel, url, items=ITEMS)
        send(channel, url, items=ITEMS)

    assert ITEMS == counts.sent
    assert requests
    assert "planted" not in "".join(requests)


@pytest.mark.parametrize("location", ["http://[bad/", "//[::1"])
def test_invalid_location(location: str, tmp_path: Path) -> None:
    """A redirect to something that is no address is reported as a redirect, and does not blame the owner's URL."""
    with environment(tmp_path / "state"), answering(answer(302, Location=location)) as url:
        counts = send("lineage", url, items=ITEMS)

    assert (0, ITEMS) == (counts.sent, counts.spooled)
    assert "it redirects without naming an address (302)" in explain(counts.reason, LINEAGE)


@pytest.mark.parametrize("goes_on", [True, False])
def test_refused_by_members(tmp_path: Path, *, goes_on: bool) -> None:
    """An event that the members of a composite transport will never accept is dropped; otherwise it would block."""
    with faulty() as server:
        server.go_wrong(status=422, only=range(1))
        transport = {
            "type": "composite",
            "continue_on_failure": goes_on,
            "transports": [{"type": "http", "url": server.url, "retry": {"total": 0}}],
        }
        box = Outbox(OpenLineageClient(config={"transport": transport}), tmp_path, "a-run")
        for number in range(ITEMS):
            box.put(event(number, RunState.COMPLETE))
        counts = box.close(soon())

    assert (ITEMS - 1, 1, 0) == (counts.sent, counts.dropped, counts.spooled)
    assert "422" in counts.reason


@pytest.mark.parametrize("status", [422, 503])
def test_refused_by_one_member(status: int, tmp_path: Path) -> None:
    """An event that one member refuses and another cannot take now is sent again."""
    with faulty() as server, faulty() as other:
        server.go_wrong(status=422)
        other.go_wrong(status=status)
        members = [{"type": "http", "url": each.url, "retry": {"total": 0}} for each in (server, other)]
        client = OpenLineageClient(config={"transport": {"type": "composite", "transports": members}})
        box = Outbox(client, tmp_path, "a-run")
        box.put(event(1, RunState.COMPLETE))
        counts = box.close(soon())

    assert ((1, 0) if status == 422 else (0, 1)) == (counts.dropped, counts.spooled)


def rejection(number: int, message: str = "too old") -> ExportTraceServiceResponse:
    """Return an OTLP response that accepts all spans except for a number of them."""
    response = ExportTraceServiceResponse()
    response.partial_success.rejected_spans = number
    response.partial_success.error_message = message
    return response


PROTOBUF = rejection(2).SerializeToString()
LONG = rejection(2, "too old " * 2_000).SerializeToString()
JSON = json_format.MessageToJson(rejection(2)).encode()


@pytest.mark.parametrize(
    "raw",
    [
        answer(200, gzip.compress(PROTOBUF), Content_Encoding="gzip"),
        answer(200, LONG),
        answer(200, JSON, Content_Type="application/json; charset=utf-8"),
        answer(200, gzip.compress(JSON), Content_Type="application/json", Content_Encoding="gzip"),
    ],
    ids=["gzip", "long message", "JSON", "JSON with gzip"],
)
def test_rejected(raw: bytes, tmp_path: Path) -> None:
    """Rejected spans count as dropped in whichever form the receiver says so."""
    with environment(tmp_path / "state"), answering(raw) as url:
        counts = send("OTLP HTTP", url, items=ITEMS)

    assert (ITEMS - 2, 2) == (counts.sent, counts.dropped)
    assert "2 rejected: too old" in counts.reason


@pytest.mark.parametrize("channel", ["OTLP HTTP", "OTLP gRPC"])
@pytest.mark.parametrize("number", [-5, 0, 7])
def test_impossible_number(channel: str, number: int, tmp_path: Path) -> None:
    """A receiver cannot reject fewer than none nor more than all."""
    raw = answer(200, rejection(number).SerializeToString())
    receiver = partial_grpc(rejection(number)) if channel == "OTLP gRPC" else answering(raw)
    with environment(tmp_path / "state"), receiver as url:
        counts = send(channel, url, items=ITEMS)

    assert ((0, ITEMS) if number > 0 else (ITEMS, 0)) == (counts.sent, counts.dropped)
