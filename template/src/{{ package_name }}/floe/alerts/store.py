"""The messages on disk: those that wait, and the marks of those that were sent, so that none is sent twice.

One JSON file per message. It is written before anything is sent, and names the channels that have not taken the message
yet. With none left, it is a mark, which is deleted after a week.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from ..delivery.state_folder import make_state_folder
from .alert import Alert, read_alert
from .history import write_file

logger = logging.getLogger(__name__)

PATIENCE = 3  # failures of a channel with a message at the front, after which the message waits behind the others
MOST_WAITING = 1000
KEPT_WAITING_SECONDS = 3 * 86_400.0
KEPT_MARK_SECONDS = 7 * 86_400.0


@dataclass(slots=True)
class Entry:
    """A message in the store.

    Attributes:
        alert: The message.
        added_at: When it was written, in seconds.
        refusals: Channel that has not taken it yet -> how often it has refused it.
        failures: How often a channel has failed with it.
    """

    alert: Alert
    added_at: float
    refusals: dict[str, int] = field(default_factory=dict)
    failures: int = 0

    @property
    def place(self) -> tuple[int, float]:
        """Return its place among those that wait: one that a receiver cannot handle must not hold up the others."""
        return self.failures // PATIENCE + sum(self.refusals.values()), self.alert.at


class AlertStore:
    """The folder of messages; only one process may use it at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.dropped = 0

    def add(self, alert: Alert, channels: list[str]) -> bool:
        """Store a message, unless it is known already; return whether it is new.

        Raises:
            OSError: The disk accepts nothing.
        """
        if self._file(alert).exists():
            return False
        make_state_folder(self._folder)
        self._write(Entry(alert, time.time(), dict.fromkeys(channels, 0)))
        return True

    def waiting(self) -> list[Entry]:
        """Return the messages that wait, those that were refused least first, then the oldest; drop those too old.

        Old marks are deleted.
        """
        entries = [entry for file in self._folder.glob("*.json") if (entry := self._read(file))]
        for entry in entries:
            if not entry.refusals and time.time() - entry.added_at > KEPT_MARK_SECONDS:
                self._file(entry.alert).unlink(missing_ok=True)
        entries = sorted((entry for entry in entries if entry.refusals), key=lambda entry: entry.added_at)
        too_many = len(entries) - MOST_WAITING
        for number, entry in enumerate(entries):
            if time.time() - entry.added_at > KEPT_WAITING_SECONDS:
                self.drop(entry, f"no channel has taken it for {KEPT_WAITING_SECONDS / 86_400:.0f} days")
            elif number < too_many:
                self.drop(entry, f"more than {MOST_WAITING} are waiting")
        alive = [entry for entry in entries if entry.refusals]
        return sorted(alive, key=lambda entry: entry.place)

    def acknowledge(self, entry: Entry, channel: str) -> None:
        """Note that a channel has taken a message."""
        del entry.refusals[channel]
        self._write(entry)

    def refuse(self, entry: Entry, channel: str) -> None:
        """Note that a channel has refused a message."""
        entry.refusals[channel] += 1
        self._write(entry)

    def fail(self, entry: Entry) -> None:
        """Note that a channel has failed with a message."""
        entry.failures += 1
        self._write(entry)

    def drop(self, entry: Entry, reason: str, channel: str | None = None) -> None:
        """Give a message up, for all channels or for one."""
        self.dropped += 1
        logger.warning("Alert dropped, because %s: %s", reason, entry.alert.subject)
        entry.refusals = {name: count for name, count in entry.refusals.items() if channel and name != channel}
        self._write(entry)

    def _file(self, alert: Alert) -> Path:
        return self._folder / f"{alert.id}.json"

    def _write(self, entry: Entry) -> None:
        document = {
            "alert": entry.alert.as_json(),
            "added_at": entry.added_at,
            "waiting": entry.refusals,
            "failures": entry.failures,
        }
        write_file(self._file(entry.alert), json.dumps(document))

    def _read(self, file: Path) -> Entry | None:
        with suppress(OSError):  # deleted in the meantime
            try:
                document = json.loads(file.read_text(encoding="utf-8"))
                alert, waiting = read_alert(document["alert"]), dict(document["waiting"])
                return Entry(alert, float(document["added_at"]), waiting, int(document["failures"]))
            except (ValueError, TypeError, KeyError):
                logger.warning("%s is not a message, and is deleted", file)
                file.unlink(missing_ok=True)
        return None


def count_waiting(folder: Path) -> int:
    """Return how many messages are waiting."""
    return sum(1 for _ in _waiting_files(folder))


def _waiting_files(folder: Path) -> Iterator[Path]:
    for file in folder.glob("*.json"):
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            if json.loads(file.read_text(encoding="utf-8"))["waiting"]:
                yield file
