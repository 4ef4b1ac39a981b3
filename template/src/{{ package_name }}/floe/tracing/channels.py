"""The channels of spans and metrics."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from opentelemetry.sdk.metrics.export import MetricsData
from opentelemetry.sdk.trace import ReadableSpan

from ..delivery.channel import Channel, RefusedError
from .exporters import OtlpSender, OtlpTarget
from .spool import SpanSpool, SpooledSpan


class SpanChannel(Channel[ReadableSpan | SpooledSpan]):
    """The channel of spans, which sends batches and stores in a folder what could not be sent."""

    name = "traces"
    batch = 512

    def __init__(self, target: OtlpTarget, folder: Path) -> None:
        self._sender = OtlpSender(target)
        self._spool = SpanSpool(folder)

    def send(self, items: Sequence[ReadableSpan | SpooledSpan]) -> None:
        """Send spans; raise the errors of `OtlpSender.send`.

        Raises:
            RefusedError: The line of a spooled span is torn.
        """
        spans = [item.span if isinstance(item, SpooledSpan) else item for item in items]
        if None in spans:
            raise RefusedError("a line of the spool is torn, so its span is lost")
        self._sender.send([span for span in spans if span])

    def acknowledge(self, items: Sequence[ReadableSpan | SpooledSpan]) -> None:
        """Mark the spans that were spooled as sent or refused."""
        self._spool.acknowledge(items)

    def spool(self, items: Sequence[ReadableSpan | SpooledSpan], deadline: float) -> int:
        """Write spans to disk for the next run; return the number written until `deadline`."""
        written = self._spool.append(items, deadline)
        self.disk_error = self._spool.error
        return written

    def close(self) -> None:
        """Release the journal."""
        self._spool.close()

    def backlog(self) -> Iterator[ReadableSpan | SpooledSpan]:
        """Yield the spans that earlier runs could not send, oldest first."""
        return self._spool.backlog()


class MetricChannel(Channel[MetricsData]):
    """The channel of metrics. They are not spooled, because each process sends its own once."""

    name = "metrics"

    def __init__(self, target: OtlpTarget) -> None:
        self._sender = OtlpSender(target)

    def send(self, items: Sequence[MetricsData]) -> None:
        """Send metrics; raise the errors of `OtlpSender.send`."""
        for data in items:
            self._sender.send(data)
