"""The handling of internal errors in lineage or tracing: each costs a detail, never an event, a span or the run.

`detail` makes each detail, such as a facet. If that raises, the error is counted for the node that the event or span
describes, and the first traceback is logged. The run's tag and its last log line give the number of nodes that lost
details.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import ParamSpec, TypeVar

from .delivery.counts import Counts, one_line

logger = logging.getLogger(__name__)

SHARED = "lineage or tracing"  # for an error that affects both, or may

T = TypeVar("T")
Args = ParamSpec("Args")


class Losses:
    """The nodes whose events or spans lack details because of an internal error."""

    def __init__(self, signal: str) -> None:
        """Count for `signal`, the name that the log uses for what is sent."""
        self._signal = signal
        self._nodes: set[str] = set()
        self._details = 0
        self._first = ""

    @contextmanager
    def of(self, node: str) -> Iterator[None]:
        """Count details lost inside this block for `node`, the name of its job or span."""
        token = _current.set((self, node))
        try:
            yield
        finally:
            _current.reset(token)

    def add_to(self, counts: Counts | None) -> None:
        """Add the nodes that lost details, and the first error, to `counts`."""
        if counts is not None:
            counts.incomplete |= self._nodes
            counts.fault = counts.fault or self._first

    def add(self, node: str, error: Exception) -> None:
        """Count a detail of a node that was lost to `error`; log the first error."""
        if not self._nodes:
            self._first = one_line(error)
            logger.warning("%s: a detail of %s was lost; the run continues", self._signal, node, exc_info=error)
        self._nodes.add(node)
        self._details += 1


class FaultGuard:
    """A guard that keeps internal errors from failing the run.

    It counts every error and logs the first one per signal with its traceback.
    """

    def __init__(self) -> None:
        self._losses: dict[str, Losses] = {}

    @contextmanager
    def __call__(self, signal: str = SHARED) -> Iterator[None]:
        """Continue after an error inside this block, and count it for `signal`."""
        try:
            yield
        except Exception as error:
            if "FLOE_RAISE" in os.environ:  # set by tests
                raise
            self.losses_of(signal).add("dbt", error)

    def losses_of(self, signal: str) -> Losses:
        """Return the counter of a signal's lost details."""
        return self._losses.setdefault(signal, Losses(signal))

    def add_to(self, counts: Counts | None, signal: str) -> None:
        """Add a signal's lost details to its `counts`."""
        for losses in (self.losses_of(SHARED), self.losses_of(signal)):
            losses.add_to(counts)


# The current counter, and the node whose event or span is being made.
_current: ContextVar[tuple[Losses, str] | None] = ContextVar("floe_faults", default=None)


def detail(make: Callable[Args, T], *args: Args.args, **kwargs: Args.kwargs) -> T | None:
    """Return the result of `make`, or None if it raises inside a `Losses.of` block."""
    try:
        return make(*args, **kwargs)
    except Exception as error:
        current = _current.get()
        if current is None or "FLOE_RAISE" in os.environ:  # set by tests, which want to see the error
            raise
        losses, node = current
        losses.add(node, error)
        return None


def lost_details() -> int:
    """Return the number of details lost so far; if it grows while something is made, that lacks details."""
    current = _current.get()
    return current[0]._details if current else 0
