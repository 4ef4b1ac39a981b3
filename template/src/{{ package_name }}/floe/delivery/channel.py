"""The channel of a signal, which sends its items and stores unsent ones on disk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")

REFUSALS = {400, 413, 422}  # HTTP statuses that stay the same if the item is sent again


class RefusedError(Exception):
    """The receiver will never accept this item, so it is dropped rather than spooled.

    Attributes:
        count: The number of items that it refused while it took the others; None if it took none.
    """

    def __init__(self, message: str, count: int | None = None) -> None:
        super().__init__(message)
        self.count = count


class Channel(Generic[Item]):
    """The channel of one signal. A subclass implements `send`, and overrides whatever else its items need.

    `Delivery` calls `send`, `acknowledge` and the iterator of `backlog` in its own thread.

    Attributes:
        name: Name of the signal.
        batch: The maximum number of items that are sent at once.
        disk_error: The first reason why `spool` could not write items to disk.
    """

    name: str
    batch = 1
    disk_error = ""

    def send(self, items: Sequence[Item]) -> None:
        """Send items.

        Raises:
            RefusedError: The receiver will never accept them.
            Exception: They could not be sent.
        """
        raise NotImplementedError

    def size(self, _: Item, /) -> int:
        """Return the size of an item in memory, in bytes."""
        return 4_096

    def sequence(self, _: Item, /) -> str | None:
        """Return the sequence of an item, if it has one; within a sequence, no item may overtake an earlier one."""
        return None

    def acknowledge(self, _: Sequence[Item], /) -> None:
        """Forget items that the receiver has accepted or refused."""

    def spool(self, _: Sequence[Item], __: float, /) -> int:
        """Leave unsent items to the next run; return how many of them are on disk.

        Items that cannot be written until the second argument, a time of `time.monotonic`, are not on disk.
        """
        return 0

    def close(self) -> None:
        """Release the files that `spool` has used."""

    def backlog(self) -> Iterator[Item]:
        """Yield the unsent items of earlier runs, in an order that preserves their sequences.

        The channel keeps items that are not acknowledged, or yields them again.
        """
        return iter(())
