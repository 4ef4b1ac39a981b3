"""The command `floe trace`: a waterfall of a command's spans, received on loopback, without a backend.

In: OTLP over HTTP (https://opentelemetry.io/docs/specs/otlp/). Out: lines of text, or an SVG picture. Tests that passed
are left out of both; the last line counts them.
"""

from __future__ import annotations

import gzip
import os
import subprocess
import tempfile
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from ..tracing.endpoint import SPAN_FOLDER

COLUMNS = 60  # width of the text bars
WIDTH, LABEL, ROW = 1000, 330, 18  # sizes in the picture, in pixels
CODE = ("asset ", "check ")  # the start of the names of spans of Python code
COLORS = {
    "model": "#4c78a8",
    "seed": "#72b7b2",
    "snapshot": "#b279a2",
    "code": "#54a24b",
    "test": "#9d9d9d",
    "unit_test": "#9d9d9d",
}
LEVEL, ERROR = "#bab0ac", "#e45756"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A span as drawn; times are in seconds from the start of the trace."""

    name: str
    depth: int
    start: float
    seconds: float
    kind: str
    note: str


def record(command: Sequence[str]) -> tuple[int, list[Span]]:
    """Run a command whose traces are sent to this process; return its exit code and the spans."""
    spans: list[Span] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            for resource_spans in ExportTraceServiceRequest.FromString(body).resource_spans:
                spans.extend(span for scope in resource_spans.scope_spans for span in scope.spans)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    here = {
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"http://127.0.0.1:{server.server_port}/v1/traces",
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",
    }
    try:
        with tempfile.TemporaryDirectory() as folder:
            environment = {**os.environ, **here, SPAN_FOLDER: folder}
            return subprocess.run(command, env=environment, check=False).returncode, spans  # noqa: S603 - the user's
    finally:
        server.shutdown()
        server.server_close()


def bars(spans: Iterable[Span]) -> list[Bar]:
    """Return the spans as bars, each one below its parent, in the order of their starts."""
    children: dict[bytes, list[Span]] = {}
    for span in sorted(spans, key=lambda span: span.start_time_unix_nano):
        children.setdefault(span.parent_span_id, []).append(span)
    zero = min((span.start_time_unix_nano for group in children.values() for span in group), default=0)

    def below(parent: bytes, depth: int) -> Iterator[Bar]:
        for span in children.get(parent, ()):
            # The spans above the nodes have a blank in their name, or lack the dots of a unique id.
            is_node = "." in span.name and " " not in span.name
            kind = span.name.partition(".")[0] if is_node else "code" if span.name.startswith(CODE) else "level"
            yield Bar(
                name=span.name,
                depth=depth,
                start=(span.start_time_unix_nano - zero) / 1e9,
                seconds=(span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
                kind=kind,
                note=_note(span),
            )
            yield from below(span.span_id, depth + 1)

    return list(below(b"", 0))


def as_text(drawn: Sequence[Bar]) -> Iterator[str]:
    """Yield the lines of a waterfall for a terminal."""
    begin, total = _window(drawn)
    shown = [bar for bar in drawn if not _is_passed(bar)]
    width = max((2 * bar.depth + len(bar.name) for bar in shown), default=0)
    for bar in shown:
        left = int(max(0.0, bar.start - begin) / total * COLUMNS)
        long = max(1, round((bar.start + bar.seconds - max(begin, bar.start)) / total * COLUMNS))
        label = "  " * bar.depth + bar.name
        before = f"starts {begin - bar.start:.2f} s before this chart" if bar.start < begin else ""
        note = ", ".join(filter(None, [bar.note, before]))
        line = f"{label:<{width}}  {' ' * left + '█' * long:<{COLUMNS + 1}} {bar.seconds:7.2f} s  {note}"
        yield line.rstrip()
    yield _passed(drawn)


def as_svg(drawn: Sequence[Bar]) -> str:
    """Return the waterfall as a picture."""
    begin, total = _window(drawn)
    shown = [bar for bar in drawn if not _is_passed(bar)]
    scale = (WIDTH - LABEL - 150) / total
    height = ROW * (len(shown) + 1) + 12
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        'font-family="sans-serif" font-size="11">',
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
    ]
    for row, bar in enumerate(shown):
        y = 6 + row * ROW
        x = LABEL + max(0.0, bar.start - begin) * scale
        long = max(2.0, (bar.start + bar.seconds - max(begin, bar.start)) * scale)
        color = COLORS.get(bar.kind, LEVEL) if not bar.note else LEVEL if bar.note == "skipped" else ERROR
        parts += [
            f'<text x="{8 + 12 * bar.depth}" y="{y + 12}">{escape(bar.name)}</text>',
            f'<rect x="{x:.1f}" y="{y + 2}" width="{long:.1f}" height="{ROW - 5}" rx="2" fill="{color}"/>',
            f'<text x="{x + long + 4:.1f}" y="{y + 12}" fill="#666">{bar.seconds:.2f} s {escape(bar.note)}</text>',
        ]
    parts += [f'<text x="8" y="{height - 8}" fill="#666">{escape(_passed(drawn))}</text>', "</svg>"]
    return "\n".join(parts) + "\n"


def _window(drawn: Sequence[Bar]) -> tuple[float, float]:
    """Return the start and length of the drawing: it starts with dbt or an asset, as Dagster's own start takes long."""
    begin = min((bar.start for bar in drawn if bar.name == "dbt" or bar.name.startswith(CODE)), default=0.0)
    return begin, max((bar.start + bar.seconds - begin for bar in drawn), default=0) or 1


def _note(span: Span) -> str:
    attributes = {attribute.key: attribute.value.string_value for attribute in span.attributes}
    if span.status.code == Status.STATUS_CODE_ERROR:
        return str(attributes.get("error.type", "error"))
    return "skipped" if attributes.get("dbt.status") == "skipped" else ""


def _is_passed(bar: Bar) -> bool:
    return bar.kind in {"test", "unit_test"} and not bar.note


def _passed(drawn: Sequence[Bar]) -> str:
    passed = [bar for bar in drawn if _is_passed(bar)]
    return f"and {len(passed)} tests that passed, {sum(bar.seconds for bar in passed):.2f} s in all"
