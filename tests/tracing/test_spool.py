"""Tests of spans that cannot be sent: none is lost in silence, and writing them to disk takes little time."""

from __future__ import annotations

import json
import math
import shutil
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from pipeline.floe.delivery import journal
from pipeline.floe.delivery.counts import Counts
from pipeline.floe.delivery.limits import BUDGET_SECONDS
from pipeline.floe.tracing import spool
from pipeline.floe.tracing.endpoint import open_spans
from pipeline.floe.tracing.spans import Handoff
from pipeline.floe.tracing.spool import SpanSpool

from tests.faults.drive import environment, settings
from tests.faults.server import Fault, faulty
from tests.floe.test_http import send
from tests.floe.test_journal import soon

MANY = 9_000  # more than the queue takes
ATTRIBUTES = {f"dbt.attribute.{number}": f"a value of usual length {number}" for number in range(25)}


def run(url: str, spans: int) -> tuple[Counts, float, float]:
    """Send spans as a run does; return their counts, and how many seconds and processor seconds the end took."""
    delivery: Any = open_spans(settings("OTLP HTTP", url))
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(Handoff(delivery.put))
    tracer = provider.get_tracer("test")
    for number in range(spans):
        tracer.start_span(f"span {number}", attributes=ATTRIBUTES).end()
    began, used = time.monotonic(), time.process_time()
    counts = delivery.close(time.monotonic() + BUDGET_SECONDS)
    return counts, time.monotonic() - began, time.process_time() - used


def run_delay() -> float:
    """Return the seconds for which threads of this process were ready to run and Linux ran others."""
    files = Path("/proc/self/task").glob("*/schedstat")
    return sum(int(file.read_text().split()[1]) for file in files) / 1e9


@pytest.mark.parametrize("fault", [Fault.HANG, Fault.REFUSE])
def test_many(fault: Fault, tmp_path: Path) -> None:
    """However many spans wait, a run is delayed by at most 3 seconds, and all are on disk."""
    with environment(tmp_path / "state"), faulty() as server:
        server.go_wrong(fault)
        for _ in range(10):
            waited = run_delay()
            counts, took, used = run(server.url, MANY)
            assert took < BUDGET_SECONDS + 0.2
            assert used < 0.7
            if not counts.dropped or run_delay() - waited < 0.3:
                break
            # The machine had other work to do, so it has not shown what this process can do in the time.
            shutil.rmtree(tmp_path / "state")
        assert (0, MANY, 0) == (counts.sent, counts.spooled, counts.dropped), counts.reason

    (file,) = (tmp_path / "state" / "traces").glob("*.ndjson")
    assert MANY == len({spooled.span.name for spooled in SpanSpool(file.parent).backlog()})


def test_slow_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a slow disk or a busy machine cannot write in time is counted as dropped, with the reason."""
    write = journal.os.write

    def write_slowly(*args: Any) -> Any:
        time.sleep(0.2)
        return write(*args)

    monkeypatch.setattr(journal.os, "write", write_slowly)
    with environment(tmp_path / "state"), faulty() as server:
        server.go_wrong(Fault.HANG)
        counts, took, _ = run(server.url, 4_000)

    assert took < BUDGET_SECONDS + 0.5
    assert counts.spooled + counts.dropped == 4_000
    assert 0 < counts.spooled < 4_000
    assert counts.spooled % spool.SLICE == 0
    assert "within the time limit" in counts.reason


def test_torn(tmp_path: Path) -> None:
    """A span whose line a killed process has torn is counted as dropped, with the reason; the others are sent."""
    with environment(tmp_path / "state"), faulty() as server:
        server.go_wrong(Fault.REFUSE)
        send("OTLP HTTP", server.url, items=3)
        (file,) = (tmp_path / "state" / "traces").glob("*.ndjson")
        first, second, third = file.read_bytes().splitlines(keepends=True)
        file.write_bytes(first + second[: len(second) // 2] + b"\n" + third + b"\0" * 100)
        server.go_wrong()
        counts = send("OTLP HTTP", server.url, items=0)

    assert (2, 2) == (counts.replayed, counts.dropped)
    assert "torn" in counts.reason
    assert not file.exists()


def test_memory(tmp_path: Path) -> None:
    """Reading a full spool takes little memory: its spans are read one after another."""
    with environment(tmp_path / "state"), faulty() as server:
        server.go_wrong(Fault.REFUSE)
        run(server.url, 4_000)
        (file,) = (tmp_path / "state" / "traces").glob("*.ndjson")
        tracemalloc.start()
        assert 4_000 == sum(1 for _ in SpanSpool(file.parent).backlog())
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()

    assert peak < file.stat().st_size / 4


def test_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Spans that the disk does not take are counted as dropped; the reason names the disk beside the endpoint."""
    (tmp_path / "file").touch()
    with faulty() as server:
        server.go_wrong(status=503)
        with environment(tmp_path / "file" / "state"):
            counts = send("OTLP HTTP", server.url)
            assert (0, 20) == (counts.spooled, counts.dropped)
            assert "Service Unavailable" in counts.reason
            assert "NotADirectoryError" in counts.reason

        monkeypatch.setattr(journal, "FOLDER_BYTES", 2_000)
        with environment(tmp_path / "state"):
            counts = send("OTLP HTTP", server.url)

    assert counts.spooled + counts.dropped == 20
    assert 0 < counts.spooled < 20
    assert "has reached its limit of" in counts.reason


def spans() -> list[ReadableSpan]:
    """Return spans with everything that a span may have."""
    ended: list[ReadableSpan] = []
    resource = Resource({"service.name": "shop", "replicas": 3}, "https://opentelemetry.io/schemas/1.44.0")
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(Handoff(ended.append))
    tracer = provider.get_tracer("floe", "1.0")
    values: dict[str, Any] = {
        "text": 'of "ü" and \n 😀',
        "yes": True,
        "number": -(2**63),
        "ratio": 0.1,
        "infinite": math.inf,
        "list": ["a", "b"],
        "numbers": [1, 2],
        "empty": [],
    }
    with tracer.start_as_current_span("outer", kind=SpanKind.CLIENT, attributes=values) as outer:
        linked = SpanContext(1, 2, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))
        inner = tracer.start_span("inner", links=[Link(linked, {"why": "it reads"})])
        inner.set_status(Status(StatusCode.ERROR, "no such table"))
        inner.add_event("exception", {"exception.type": "E"}, timestamp=17)
        inner.end()
        outer.set_status(Status(StatusCode.OK))
    provider.get_tracer("other").start_span("of another scope").end()
    return ended


def test_same(tmp_path: Path) -> None:
    """A span that was on disk is sent as it would have been sent at once."""
    originals = spans()
    SpanSpool(tmp_path).append(originals)
    for file in tmp_path.glob("*.ndjson"):
        assert all("resourceSpans" in json.loads(line) for line in file.read_text().splitlines())
    own = SpanSpool(tmp_path)
    assert [] == list(own.backlog())  # its process is alive

    spool_of_dead = SpanSpool(tmp_path / "dead")
    spool_of_dead.append(originals)
    spool_of_dead.close()
    replayed = [spooled.span for spooled in SpanSpool(tmp_path / "dead").backlog()]

    assert 3 == len(replayed)
    for original, again in zip(originals, replayed, strict=True):
        assert encode_spans([original]) == encode_spans([again])


def test_invalid_text(tmp_path: Path) -> None:
    """Half a surrogate pair in one span does not cost the others."""
    ended: list[ReadableSpan] = []
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(Handoff(ended.append))
    for name in ("good", "bad \ud800", "also good"):
        provider.get_tracer("floe").start_span(name).end()
    store = SpanSpool(tmp_path)

    assert 3 == store.append(ended, soon())
    store.close()
    assert [span.name for span in ended] == [spooled.span.name for spooled in SpanSpool(tmp_path).backlog()]
