"""OpenTelemetry's global provider, so that libraries that trace themselves send their spans with the step's.

A library such as an instrumented HTTP client asks for the global provider. If the project or its environment has set
one, that stays. Otherwise the spans go to the step that is open in this process.
"""

from __future__ import annotations

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor

from ..settings import Settings
from .endpoint import resource_of
from .spans import DerivedIds, RunTracerProvider, SpanBuilder


class OpenStep(SpanProcessor):
    """A processor that passes ended spans to the step that is open in this process; without one, drops them."""

    def __init__(self) -> None:
        self.builder: SpanBuilder | None = None

    def on_end(self, span: ReadableSpan) -> None:
        """Pass on a span."""
        if self.builder:
            self.builder.adopt(span)


_open_step = OpenStep()


def share_provider(settings: Settings, builder: SpanBuilder) -> None:
    """Let the spans of other libraries in this process join those of `builder`, until another step opens."""
    _open_step.builder = builder
    if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        # A span without a parent, from a thread of its own, gets the run's trace id at least.
        provider = RunTracerProvider(resource_of(settings), _CurrentIds())
        provider.add_span_processor(_open_step)
        trace.set_tracer_provider(provider)


class _CurrentIds(DerivedIds):
    """The ids of the run whose step is open."""

    def __init__(self) -> None:
        super().__init__("")

    def generate_trace_id(self) -> int:
        """Return the trace id of the run, or a random one if no step is open."""
        builder = _open_step.builder
        return builder.trace_id if builder else self._random.generate_trace_id()
