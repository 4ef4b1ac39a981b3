"""The spool of spans that could not be sent: OTLP requests in a journal, one per span."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from uuid import uuid4

from opentelemetry.sdk.trace import ReadableSpan

from ..delivery.counts import one_line
from ..delivery.journal import Journal, claimed
from .span_json import as_requests, from_request

SLICE = 256  # spans that are written at once


@dataclass(frozen=True, slots=True)
class SpooledSpan:
    """A span of an earlier run with its position in the spool; `span` is None if its line is torn."""

    span: ReadableSpan | None
    journal: Journal
    offset: int


class SpanSpool:
    """The spans in one folder that are waiting to be sent.

    Attributes:
        error: The first error of the disk, or the reason why not all spans were written.
    """

    def __init__(self, folder: Path) -> None:
        self.error = ""
        self._folder = folder
        self._journal: Journal | None = None

    def append(self, items: Sequence[ReadableSpan | SpooledSpan], deadline: float = inf) -> int:
        """Write spans to disk until `deadline` of `time.monotonic`, except for those already there.

        Returns:
            The number of spans written, which are the first ones.
        """
        spans = [item for item in items if isinstance(item, ReadableSpan)]
        try:
            self._journal = journal = self._journal or Journal.create(self._folder, uuid4().hex[:8])
        except OSError as error:
            self.error = self.error or one_line(error)
            return 0
        written = 0
        for start in range(0, len(spans), SLICE):
            if start and time.monotonic() >= deadline:
                self.error = self.error or "not all spans could be written to disk within the time limit"
                break
            written += _written(journal, list(as_requests(spans[start : start + SLICE])))
            if journal.error:
                self.error = self.error or journal.error
                break
        return written

    def close(self) -> None:
        """Leave the spans to the next run."""
        if self._journal:
            self._journal.settle()
            self._journal = None

    def backlog(self) -> Iterator[SpooledSpan]:
        """Yield the spans that earlier runs could not send, oldest first."""
        for journal in claimed(self._folder):
            try:
                # Only the offsets, because the spans of a full spool would take hundreds of megabytes.
                for offset in [line.offset for line in journal.read() if line.is_waiting]:
                    yield SpooledSpan(_span(journal.text(offset)), journal, offset)
                journal.settle()
            finally:
                journal.close()

    def acknowledge(self, items: Sequence[ReadableSpan | SpooledSpan]) -> None:
        """Mark spooled spans as no longer waiting."""
        for item in items:
            if isinstance(item, SpooledSpan):
                item.journal.acknowledge(item.offset)


def _span(text: str) -> ReadableSpan | None:
    """Return the span of a request as JSON, or None if the line is torn."""
    try:
        return from_request(json.loads(text))
    except Exception:
        return None


def _written(journal: Journal, lines: Sequence[str]) -> int:
    """Append all lines, or as many as the disk has room for; return their number."""
    if journal.append_all(lines):
        return len(lines)
    numbers = (number for number, line in enumerate(lines) if journal.append(line) is None)
    return next(numbers, len(lines))
