"""The sender: a bounded queue and one daemon thread per channel, which add at most 3 seconds to a run.

Nothing here blocks the run, raises an error in it, or outlives it by more than its budget. An item that fails is sent
again after the others, except for those that must not overtake it. After `FAILURES` failures in a row, the channel
pauses for `REST_SECONDS`, or gives up if the run is over. Whatever is unsent at the end is spooled if the channel has a
spool; otherwise it is counted as dropped. The backlog of earlier runs is sent whenever the run has nothing to send.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from typing import Generic

from .channel import Channel, Item, RefusedError
from .counts import Counts, one_line
from .limits import FAILURES, LINGER_SECONDS, QUEUE_BYTES, REST_SECONDS, SPOOL_SECONDS

THREAD_PREFIX = "floe-"  # start of the names of our threads


class Delivery(Generic[Item]):
    """The delivery of one channel's items, in a thread of its own.

    Attributes:
        counts: The counts of the items so far.
    """

    def __init__(self, channel: Channel[Item], waiting: Sequence[Item] = (), *, replays: bool = True) -> None:
        """Start the thread; `waiting` are items to send first, and the backlog follows if it `replays`."""
        self.counts = Counts()
        self._channel = channel
        self._limit = channel.batch  # smaller after a batch has been refused
        self._backlog: Iterator[Item] | None = channel.backlog() if replays else None
        self._waiting = deque(waiting)
        self._bytes = sum(map(channel.size, waiting))
        self._in_flight: Sequence[Item] = ()
        self._spooled_sequences: set[str] = set()  # those that the next run continues
        self._failures = 0
        self._backlog_failures = 0
        self._backlog_error = ""
        self._not_replayed: set[Item] = set()
        self._closing = False
        self._abandoned = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name=f"{THREAD_PREFIX}{channel.name}", daemon=True)
        self._thread.start()

    def put(self, item: Item) -> None:
        """Queue an item for sending; if the queue is full, spool or drop it at once."""
        with self._changed:
            size = self._channel.size(item)
            fits = self._bytes + size <= QUEUE_BYTES and self._channel.sequence(item) not in self._spooled_sequences
            if fits:
                self._waiting.append(item)
                self._bytes += size
                self._changed.notify()
        if not fits:
            self.leave(item, "the queue is full")

    def leave(self, item: Item, reason: str) -> None:
        """Leave an item and its successors in its sequence to the next run; drop it if it is not on disk."""
        if self._give_up([item], reason, time.monotonic()) and (sequence := self._channel.sequence(item)) is not None:
            self._spooled_sequences.add(sequence)

    def close(self, deadline: float) -> Counts:
        """Send items, spool or drop the rest, and return the counts, all until `deadline` of `time.monotonic`."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        left_seconds = max(0.0, deadline - time.monotonic())
        self._thread.join(max(left_seconds - SPOOL_SECONDS, left_seconds / 2))
        with self._changed:
            self._abandoned = True
            left = [*self._in_flight, *self._waiting]
            self._in_flight = ()
            self._waiting.clear()
            if self._backlog is not None:
                self.counts.last_error = self.counts.last_error or self._backlog_error or "the time limit was reached"
        if left:
            self._give_up(left, self.counts.last_error or "no answer in time", deadline)
        self._channel.close()
        return self.counts

    def _work(self) -> None:
        try:
            self._send_all()
        finally:
            self._drop_backlog()

    def _send_all(self) -> None:
        while not self._abandoned:
            with self._changed:
                if self._waiting and self._channel.batch > 1:
                    self._changed.wait_for(lambda: self._closing or len(self._waiting) >= self._limit, LINGER_SECONDS)
                items = self._in_flight = self._take()
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
        self._bytes -= sum(map(self._channel.size, items))
        return items

    def _deliver(self, items: Sequence[Item]) -> bool:
        """Send items of this run; return whether to continue."""
        error = self._try(items)
        with self._changed:
            if self._abandoned:  # close() has counted them already
                return False
            self._in_flight = ()
            if error:
                self.counts.last_error = one_line(error)
            if isinstance(error, RefusedError) and error.count is None and len(items) > 1:
                # One of them may be invalid, or all together too large. Smaller batches find out which.
                self._limit = len(items) // 2
                self._waiting.extendleft(reversed(items))
                self._bytes += sum(map(self._channel.size, items))
                return True
            if error is None:
                self._failures = 0
                self._limit = min(self._channel.batch, 2 * self._limit)
                self.counts.sent += len(items)
            elif isinstance(error, RefusedError):
                self._failures = 0  # the endpoint works
                refused = len(items) if error.count is None else max(0, min(error.count, len(items)))
                self.counts.dropped += refused
                self.counts.sent += len(items) - refused
            else:
                self._put_back(items)
                self._failures += 1
                if self._failures < FAILURES:
                    return True
                self._changed.wait_for(lambda: self._closing, REST_SECONDS)
                return not self._closing
        self._channel.acknowledge(items)
        return True

    def _put_back(self, items: Sequence[Item]) -> None:
        """Put failed items at the end of the queue, and behind them those that must not overtake them."""
        sequence = self._channel.sequence
        sequences = {sequence(item) for item in items} - {None}
        behind = [item for item in self._waiting if sequence(item) in sequences] if sequences else []
        if behind:
            self._waiting = deque(item for item in self._waiting if sequence(item) not in sequences)
        self._waiting.extend([*items, *behind])
        self._bytes += sum(map(self._channel.size, items))

    def _replay(self, backlog: Iterator[Item]) -> None:
        try:
            item = next(backlog, None)
        except Exception as raised:  # a file cannot be read, but this run's items are still sent
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
            self._channel.acknowledge([item])
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
        """Leave the rest of the backlog, if any, to the next run."""
        if self._not_replayed:
            self.counts.last_error = self._backlog_error
        if isinstance(self._backlog, Generator):
            self._backlog.close()  # now, because it holds files open
        self._backlog = None

    def _try(self, items: Sequence[Item]) -> Exception | None:
        try:
            self._channel.send(items)
        except Exception as error:  # a transport may raise anything
            return error
        return None

    def _give_up(self, items: Sequence[Item], error: str, deadline: float) -> int:
        """Count items as spooled or dropped; return how many are on disk."""
        on_disk = self._channel.spool(items, deadline)
        self.counts.spooled += on_disk
        self.counts.dropped += len(items) - on_disk
        self.counts.last_error = error
        self.counts.disk_error = self._channel.disk_error
        return on_disk
