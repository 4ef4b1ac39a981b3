"""The channel of a signal: how its items are sent, and where they wait on disk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")

TIMEOUT_SECONDS = 2  # of one attempt; the journal takes the place of retries
REFUSALS = {400, 413, 422}  # HTTP statuses that do not change by sending the same item again


class RefusedError(Exception):
    """The receiver will never take this item: it is dropped, not spooled."""


class Channel(Generic[Item]):
    """The channel of one signal. A subclass says how to send, and overrides what else its items need.

    `Delivery` calls `send`, `acknowledge` and the iterator of `backlog` in its own thread.

    Attributes:
        name: Name of the signal.
        batch: How many items are sent at once at most.
    """

    name: str
    batch = 1

    def send(self, items: Sequence[Item]) -> None:
        """Send items.

        Raises:
            RefusedError: The receiver will never take them.
            Exception: They were not sent.
        """
        raise NotImplementedError

    def size(self, _: Item, /) -> int:
        """Return the bytes that an item takes in memory."""
        return 4_096

    def sequence(self, _: Item, /) -> str | None:
        """Return the name of the sequence, if any, within which no item may overtake an earlier one."""
        return None

    def acknowledge(self, _: Sequence[Item], /) -> None:
        """Forget items that the receiver has taken or refused."""

    def spool(self, _: Sequence[Item], /) -> int:
        """Leave unsent items to the next run; return how many of them are on disk."""
        return 0

    def backlog(self) -> Iterator[Item]:
        """Yield the items of earlier runs, in an order that keeps their sequences.

        Whatever is not acknowledged is the channel's to keep, or to yield again.
        """
        return iter(())
