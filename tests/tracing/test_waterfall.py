"""Tests of `floe trace`, which draws a command's spans without a backend."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from pipeline.floe.cli import main as cli
from pipeline.floe.cli.waterfall import Bar, as_svg, as_text, bars, record

# Sends a run of 10 s in which a seed took the first half, a test passed, and a model failed.
SENDS = """
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter()))
tracer = provider.get_tracer("t")
at = lambda seconds: 1_700_000_000_000_000_000 + int(seconds * 1e9)
run = tracer.start_span("run daily", start_time=at(0))
below = trace.set_span_in_context(run)
for name, start, end in (("model.shop.b", 6, 8), ("seed.shop.<a>", 0, 5), ("test.shop.t", 5, 6)):
    span = tracer.start_span(name, below, start_time=at(start))
    if name.startswith("model"):
        span.set_attribute("error.type", "Database Error")
        span.set_status(trace.StatusCode.ERROR)
    span.end(at(end))
run.end(at(10))
raise SystemExit(3)
"""


@pytest.fixture(scope="module")
def drawn() -> list[Bar]:
    """Return the bars of a command's spans."""
    code, spans = record([sys.executable, "-c", SENDS])
    assert 3 == code
    found: list[Bar] = bars(spans)
    return found


def test_order(drawn: list[Bar]) -> None:
    """Bars are below their parent, in order of start."""
    assert [
        ("run daily", 0, 0, 10),
        ("seed.shop.<a>", 1, 0, 5),
        ("test.shop.t", 1, 5, 1),
        ("model.shop.b", 1, 6, 2),
    ] == [(bar.name, bar.depth, bar.start, bar.seconds) for bar in drawn]


def test_text(drawn: list[Bar]) -> None:
    """A bar's length is its share of the total; failures have a reason; passed tests are counted."""
    run, seed, model, last = as_text(drawn)

    assert run.count("█") == 2 * seed.count("█") == 5 * model.count("█")
    assert model.endswith("Database Error")
    assert "and 1 tests that passed, 1.00 s in all" == last


def test_picture(drawn: list[Bar]) -> None:
    """The picture is well-formed and has a bar for each line of the text."""
    picture = ET.fromstring(as_svg(drawn))
    space = {"svg": "http://www.w3.org/2000/svg"}

    assert "seed.shop.<a>" in [text.text for text in picture.findall("svg:text", space)]
    widths = [float(bar.attrib["width"]) for bar in picture.findall("svg:rect", space)[1:]]
    assert [1, 0.5, 0.2] == [round(width / widths[0], 2) for width in widths]


def test_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The exit code is the command's; without spans there is a message and no picture."""
    file = tmp_path / "trace.svg"
    for code, script in ((3, SENDS), (0, "pass")):
        monkeypatch.setattr(sys, "argv", ["floe", "trace", "--svg", str(file), sys.executable, "-c", script])
        assert code == cli.main()

    assert file.read_text().startswith("<svg")
    assert "No spans arrived" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "kind"),
    [("run shop.assets", "level"), ("step dbt_models", "level"), ("dbt", "level"), ("model.shop.orders", "model")],
)
def test_kind(name: str, kind: str) -> None:
    """A level above the nodes is drawn as that level, whatever its job's name; a node is drawn as dbt's type."""
    (bar,) = bars([Span(name=name, span_id=bytes(8))])

    assert kind == bar.kind


# Sends a span as a run does, and whatever waits.
RUN = """
import time
from opentelemetry.sdk.trace import TracerProvider
from pipeline.floe.settings import settings
from pipeline.floe.tracing.endpoint import open_spans
from pipeline.floe.tracing.spans import Handoff

delivery = open_spans(settings)
provider = TracerProvider(shutdown_on_exit=False)
provider.add_span_processor(Handoff(delivery.put))
provider.get_tracer("t").start_span(NAME).end()
delivery.close(time.monotonic() + SECONDS)
"""


def test_backlog_stays(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Spans that wait for the real endpoint are neither drawn nor taken."""
    monkeypatch.setenv("PYTHONPATH", str(project / "src"))
    monkeypatch.setenv("FLOE_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    first = RUN.replace("NAME", "'waits'").replace("SECONDS", "3")
    subprocess.run([sys.executable, "-c", first], check=True)
    waiting = [file.read_bytes() for file in (tmp_path / "traces").glob("*.ndjson")]

    _, spans = record([sys.executable, "-c", RUN.replace("NAME", "'drawn'").replace("SECONDS", "20")])

    assert ["drawn"] == [span.name for span in spans]
    assert 1 == len(waiting)
    assert waiting == [file.read_bytes() for file in (tmp_path / "traces").glob("*.ndjson")]
