"""The one bounded sender: items go in from the run, and leave from one daemon thread.

Nothing here blocks the run, raises into it or outlives it by more than its budget. What could not be sent is kept in
a spool file, if there is one, and sent first by the next run; what could not be kept is counted as dropped.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

logger = logging.getLogger(__name__)

Item = TypeVar("Item")

BUDGET_SECONDS = 3.0  # that all deliveries of a run together may add to it
QUEUE_ITEMS = 10_000  # some 4 kB each: 40 MB at most
COOL_DOWN_SECONDS = 10.0  # after a failure, before the endpoint is tried again
SPOOL_BYTES = 64 * 1024 * 1024


class RefusedError(Exception):
    """The receiver will never take this item: it is dropped, not kept."""


@dataclass(slots=True)
class Counts:
    """What became of the items of a run."""

    sent: int = 0
    spooled: int = 0
    dropped: int = 0
    replayed: int = 0
    last_error: str = ""

    def __str__(self) -> str:
        """Return the counts that are not zero, as a person reads them."""
        return (
            ", ".join(
                f"{getattr(self, name)} {name}"
                for name in ("sent", "replayed", "spooled", "dropped")
                if getattr(self, name)
            )
            or "0 sent"
        )


class Spool:
    """An append-only file of unsent JSON events, one a line, readable by its owner only."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = threading.Lock()

    def keep(self, line: str) -> bool:
        """Append a line; say whether there was room and the disk took it."""
        data = line.encode() + b"\n"
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with self._lock:
                descriptor = os.open(self._file, os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o600)
                try:
                    return os.fstat(descriptor).st_size + len(data) <= SPOOL_BYTES and bool(os.write(descriptor, data))
                finally:
                    os.close(descriptor)
        except OSError:
            return False

    def take(self) -> list[str]:
        """Return the lines of the file and empty it; two processes never take the same line."""
        claimed = self._file.with_name(f"{self._file.name}.{uuid.uuid4().hex}")
        try:
            self._file.rename(claimed)
        except OSError:
            return []
        lines = claimed.read_text(encoding="utf-8", errors="replace").splitlines()
        claimed.unlink(missing_ok=True)
        return [line for line in lines if _is_json(line)]


class Delivery(Generic[Item]):
    """One channel: `send` is called in a daemon thread with at most `batch` items, and raises if it fails."""

    def __init__(
        self,
        name: str,
        send: Callable[[Sequence[Item]], None],
        *,
        keep: Callable[[Item], bool] = lambda _: False,
        batch: int = 1,
    ) -> None:
        self.counts = Counts()
        self._name = name
        self._send = send
        self._keep = keep
        self._batch = batch
        self._queue: queue.Queue[Item | None] = queue.Queue(QUEUE_ITEMS)
        self._in_hand: Sequence[Item] = ()
        self._closed_until = 0.0
        self._abandoned = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._work, name=f"floe-{name}", daemon=True)
        self._thread.start()

    def put(self, item: Item) -> None:
        """Take an item for sending; with a full queue it is kept or dropped at once."""
        try:
            self._queue.put_nowait(item)
        except queue.Full:
            self._give_up([item], "the queue is full")

    def close(self, deadline: float) -> Counts:
        """Send what is left until `deadline` (of `time.monotonic`), keep or drop the rest, say what became of all."""
        with contextlib.suppress(queue.Full):
            self._queue.put_nowait(None)
        self._thread.join(max(0.0, deadline - time.monotonic()))
        with self._lock:
            self._abandoned = True
            left, self._in_hand = list(self._in_hand), ()
        while True:
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                break
            if item is not None:
                left.append(item)
        if left:
            self._give_up(left, self.counts.last_error or "no answer in time")
        if self.counts.spooled or self.counts.dropped:
            logger.warning("%s: %s; last error: %s", self._name, self.counts, self.counts.last_error)
        return self.counts

    def _work(self) -> None:
        while not self._abandoned and (item := self._queue.get()) is not None:
            items = [item]
            with self._lock:
                while len(items) < self._batch and not self._queue.empty():
                    following = self._queue.get_nowait()
                    if following is None:
                        self._queue.put_nowait(None)
                        break
                    items.append(following)
                self._in_hand = items
            self._deliver(items)

    def _deliver(self, items: Sequence[Item]) -> None:
        error = self.counts.last_error
        failed = time.monotonic() < self._closed_until
        refused = False
        if not failed:
            try:
                self._send(items)
            except Exception as raised:  # a transport may raise anything
                error = f"{type(raised).__name__}: {raised}"
                refused = isinstance(raised, RefusedError)
                failed = True
        with self._lock:
            if self._abandoned:  # close() has counted them already
                return
            self._in_hand = ()
            if not failed:
                self.counts.sent += len(items)
                return
        if not refused:
            self._closed_until = time.monotonic() + COOL_DOWN_SECONDS
        self._give_up(items, error, keep=not refused)

    def _give_up(self, items: Sequence[Item], error: str, *, keep: bool = True) -> None:
        for item in items:
            if keep and self._keep(item):
                self.counts.spooled += 1
            else:
                self.counts.dropped += 1
        self.counts.last_error = error


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except ValueError:  # torn by a crash while it was written
        return False
    return True
