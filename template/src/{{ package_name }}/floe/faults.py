"""Faults of ours in lineage or tracing: each costs a detail, never an event, a span or the run.

Each detail, such as a facet, is made by `detail`. What it raises is counted for the node that the event or span is of,
and the first traceback is logged. How many nodes have lost detail stands in the run's tag and in its last log line.
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

SHARED = "lineage or tracing"  # of a fault that costs both, or that may

T = TypeVar("T")
Args = ParamSpec("Args")


class Losses:
    """The nodes whose events, or spans, lack details because of a fault of ours."""

    def __init__(self, signal: str) -> None:
        """Take what is sent, as the log is to name it."""
        self._signal = signal
        self._nodes: set[str] = set()
        self._details = 0
        self._first = ""

    @contextmanager
    def of(self, node: str) -> Iterator[None]:
        """Count the details that are lost meanwhile for `node`, the name of its job or span."""
        token = _current.set((self, node))
        try:
            yield
        finally:
            _current.reset(token)

    def add_to(self, counts: Counts | None) -> None:
        """Say in `counts` of which nodes detail was lost, and the first reason."""
        if counts is not None:
            counts.incomplete |= self._nodes
            counts.fault = counts.fault or self._first

    def add(self, node: str, error: Exception) -> None:
        """Count a detail that `error` has cost a node; log the first."""
        if not self._nodes:
            self._first = one_line(error)
            logger.warning("%s lost a detail of %s; the run continues", self._signal, node, exc_info=error)
        self._nodes.add(node)
        self._details += 1


class FaultGuard:
    """Keeps faults of ours from the run: each is counted, and the first of a signal is logged with its traceback."""

    def __init__(self) -> None:
        self._losses: dict[str, Losses] = {}

    @contextmanager
    def __call__(self, signal: str = SHARED) -> Iterator[None]:
        """Go on after a fault inside, which costs what is sent as `signal`."""
        try:
            yield
        except Exception as error:
            if "FLOE_RAISE" in os.environ:  # set by tests
                raise
            self.losses_of(signal).add("dbt", error)

    def losses_of(self, signal: str) -> Losses:
        """Return what counts the faults of a signal."""
        return self._losses.setdefault(signal, Losses(signal))

    def add_to(self, counts: Counts | None, signal: str) -> None:
        """Say in the `counts` of a signal what faults have cost it."""
        for losses in (self.losses_of(SHARED), self.losses_of(signal)):
            losses.add_to(counts)


# What counts the faults just now, and the node whose event or span is made.
_current: ContextVar[tuple[Losses, str] | None] = ContextVar("floe_faults", default=None)


def detail(make: Callable[Args, T], *args: Args.args, **kwargs: Args.kwargs) -> T | None:
    """Return what `make` returns for the arguments, or nothing if it raises while `Losses.of` counts."""
    try:
        return make(*args, **kwargs)
    except Exception as error:
        current = _current.get()
        if current is None or "FLOE_RAISE" in os.environ:  # set by tests: a fault is to be seen
            raise
        losses, node = current
        losses.add(node, error)
        return None


def lost_details() -> int:
    """Return how many details have been lost so far: what was made while it grew lacks some."""
    current = _current.get()
    return current[0]._details if current else 0
