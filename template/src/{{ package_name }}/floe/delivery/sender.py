"""The sender: a bounded queue and one daemon thread, which adds at most 3 seconds to a run.

Nothing here blocks the run, raises into it or outlives it by more than its budget. An item that fails is tried again
behind the others, except for those that must not overtake it. After `FAILURES` in a row the channel rests for
`REST_SECONDS`, or gives up if the run is over. Whatever is unsent at the end is kept on disk if the channel can;
otherwise it is counted as dropped. The backlog, which earlier runs have left, is sent whenever the run has nothing to
send.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Item = TypeVar("Item")

BUDGET_SECONDS = 3.0  # that all deliveries of a run together may add to it
QUEUE_BYTES = 32 * 1024 * 1024  # of each channel
FAILURES = 3  # in a row: then it is the endpoint, not the item
REST_SECONDS = 10.0
LINGER_SECONDS = 1.0  # that a batch waits for more
TIMEOUT_SECONDS = 2  # of one attempt; the journal takes the place of retries
THREAD_PREFIX = "floe-"  # what the names of the threads begin with
REFUSALS = {400, 413, 422}  # statuses of HTTP that do not change by sending the same item again


class RefusedError(Exception):
    """The receiver will never take this item: it is dropped, not kept."""


@dataclass(slots=True)
class Counts:
    """What became of the items of a run.

    `replayed` are those of earlier runs. `incomplete` are the nodes that have lost detail through a fault of ours, and
    `fault` is the first such fault.
    """

    sent: int = 0
    replayed: int = 0
    spooled: int = 0
    dropped: int = 0
    last_error: str = ""
    disk_error: str = ""
    incomplete: set[str] = field(default_factory=set)
    fault: str = ""

    def __str__(self) -> str:
        """Return the counts that are not zero, as a person reads them."""
        numbers = ((name, getattr(self, name)) for name in ("sent", "replayed", "spooled", "dropped"))
        text = ", ".join(f"{number} {name}" for name, number in numbers if number) or "0 sent"
        if nodes := len(self.incomplete):
            text += f" (detail lost for {nodes} {'node' if nodes == 1 else 'nodes'})"
        return text

    @property
    def is_bad(self) -> bool:
        """Say whether something was not sent, was sent without all detail, or would have been lost with the process."""
        return bool(self.spooled or self.dropped or self.disk_error or self.incomplete)

    @property
    def reason(self) -> str:
        """Return why, on one line."""
        fault = f"a fault in floe itself, whose traceback is in the log: {self.fault}" if self.fault else ""
        sending = self.last_error if self.spooled or self.dropped else ""
        return "; ".join(filter(None, (sending, self.disk_error, fault)))


class Delivery(Generic[Item]):
    """One channel.

    Args:
        name: What its thread is called.
        send: Called in the thread with at most `batch` items; raises if it fails.
        batch: How many items leave at once at most; fewer wait `LINGER_SECONDS` for more.
        size: An item's bytes in memory; more than `QUEUE_BYTES` do not wait.
        order: Name of the sequence that an item belongs to, within which none is sent before an earlier one.
        sent: Told of items that need no sending any more.
        keep: Told of items that were not sent; returns how many of them are on disk.
        waiting: Items to send first.
        backlog: Items of earlier runs, read in the thread, in an order that keeps their sequences. Whatever is not
            `sent` is the backlog's to keep, or to yield again.
    """

    def __init__(
        self,
        name: str,
        send: Callable[[Sequence[Item]], None],
        *,
        batch: int = 1,
        size: Callable[[Item], int] = lambda _: 4_096,
        order: Callable[[Item], str | None] = lambda _: None,
        sent: Callable[[Sequence[Item]], None] = lambda _: None,
        keep: Callable[[Sequence[Item]], int] = lambda _: 0,
        waiting: Sequence[Item] = (),
        backlog: Iterable[Item] = (),
    ) -> None:
        self.counts = Counts()
        self._send = send
        self._batch = batch
        self._limit = batch  # fewer after a batch was refused
        self._size = size
        self._order = order
        self._sent = sent
        self._keep = keep
        self._backlog: Iterator[Item] | None = iter(backlog)
        self._waiting = deque(waiting)
        self._bytes = sum(map(size, waiting))
        self._in_hand: Sequence[Item] = ()
        self._left_to_disk: set[str] = set()  # sequences that the next run goes on with
        self._failures = 0
        self._backlog_failures = 0
        self._backlog_error = ""
        self._not_replayed: set[Item] = set()
        self._closing = False
        self._abandoned = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name=f"{THREAD_PREFIX}{name}", daemon=True)
        self._thread.start()

    def put(self, item: Item) -> None:
        """Take an item for sending; if too much waits already, it is kept or dropped at once."""
        with self._changed:
            fits = self._bytes + self._size(item) <= QUEUE_BYTES and self._order(item) not in self._left_to_disk
            if fits:
                self._waiting.append(item)
                self._bytes += self._size(item)
                self._changed.notify()
        if not fits:
            self.leave(item, "too much waits already")

    def leave(self, item: Item, reason: str) -> None:
        """Leave an item, and what follows it in its sequence, to the next run; drop it if it is not on disk."""
        if self._give_up([item], reason) and (sequence := self._order(item)) is not None:
            self._left_to_disk.add(sequence)

    def close(self, deadline: float) -> Counts:
        """Send what is left until `deadline` (of `time.monotonic`), keep or drop the rest, say what became of all."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(max(0.0, deadline - time.monotonic()))
        with self._changed:
            self._abandoned = True
            left = [*self._in_hand, *self._waiting]
            self._in_hand = ()
            self._waiting.clear()
            if self._backlog is not None:
                self.counts.last_error = self.counts.last_error or self._backlog_error or "the time was up"
        if left:
            self._give_up(left, self.counts.last_error or "no answer in time")
        return self.counts

    def _work(self) -> None:
        try:
            self._send_all()
        finally:
            self._drop_backlog()

    def _send_all(self) -> None:
        while not self._abandoned:
            with self._changed:
                if self._waiting and self._batch > 1:
                    self._changed.wait_for(lambda: self._closing or len(self._waiting) >= self._limit, LINGER_SECONDS)
                items = self._in_hand = self._take()
                idle = not items and self._backlog is None
                if idle and self._closing:
                    return
                if idle:
                    self._changed.wait()
            if items:
                if not self._deliver(items):
                    return
            elif self._backlog is not None:
                self._replay(self._backlog)

    def _take(self) -> Sequence[Item]:
        items = [self._waiting.popleft() for _ in range(min(self._limit, len(self._waiting)))]
        self._bytes -= sum(map(self._size, items))
        return items

    def _deliver(self, items: Sequence[Item]) -> bool:
        """Send items of this run; say whether to go on."""
        error = self._try(items)
        with self._changed:
            if self._abandoned:  # close() has counted them already
                return False
            self._in_hand = ()
            if error:
                self.counts.last_error = one_line(error)
            if isinstance(error, RefusedError) and len(items) > 1:
                # It may be one of them, or all together may be too large: smaller batches will tell.
                self._limit = len(items) // 2
                self._waiting.extendleft(reversed(items))
                self._bytes += sum(map(self._size, items))
                return True
            if error is None:
                self._failures = 0
                self._limit = min(self._batch, 2 * self._limit)
                self.counts.sent += len(items)
            elif isinstance(error, RefusedError):
                self.counts.dropped += len(items)
            else:
                self._put_back(items)
                self._failures += 1
                if self._failures < FAILURES:
                    return True
                self._changed.wait_for(lambda: self._closing, REST_SECONDS)
                return not self._closing
        self._sent(items)
        return True

    def _put_back(self, items: Sequence[Item]) -> None:
        """Put items that failed at the end of the line, and behind them those that must not overtake them."""
        sequences = {self._order(item) for item in items} - {None}
        behind = [item for item in self._waiting if self._order(item) in sequences] if sequences else []
        if behind:
            self._waiting = deque(item for item in self._waiting if self._order(item) not in sequences)
        self._waiting.extend([*items, *behind])
        self._bytes += sum(map(self._size, items))

    def _replay(self, backlog: Iterator[Item]) -> None:
        try:
            item = next(backlog, None)
        except Exception as raised:  # of a file, and no reason to send no more
            self.counts.last_error = one_line(raised)
            item = None
        if item is None:
            self._drop_backlog()
            return
        error = self._try([item])
        if self._abandoned:
            return
        if error is None or isinstance(error, RefusedError):
            self._backlog_failures = 0
            self._not_replayed.discard(item)
            self._sent([item])
            if error is None:
                self.counts.replayed += 1
            else:
                self.counts.dropped += 1
                self.counts.last_error = one_line(error)
            return
        self._not_replayed.add(item)
        self._backlog_error = one_line(error)
        self._backlog_failures += 1
        if self._backlog_failures >= FAILURES:
            self._drop_backlog()

    def _drop_backlog(self) -> None:
        """Leave the rest of the backlog, if there is one, to the next run."""
        if self._not_replayed:
            self.counts.last_error = self._backlog_error
        if isinstance(self._backlog, Generator):
            self._backlog.close()  # at once: it holds files
        self._backlog = None

    def _try(self, items: Sequence[Item]) -> Exception | None:
        try:
            self._send(items)
        except Exception as error:  # a transport may raise anything
            return error
        return None

    def _give_up(self, items: Sequence[Item], error: str) -> int:
        """Count items as spooled or dropped; return how many are on disk."""
        on_disk = self._keep(items)
        self.counts.spooled += on_disk
        self.counts.dropped += len(items) - on_disk
        self.counts.last_error = error
        return on_disk


def one_line(error: Exception) -> str:
    """Return what an error says, shortened to its first line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
