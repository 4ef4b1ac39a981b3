"""Counts of a run's items by what happened to them: sent, replayed, spooled or dropped."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Counts:
    """The number of a run's items by what happened to them.

    Attributes:
        sent: Items of this run that were sent.
        replayed: Items of earlier runs that were sent.
        spooled: Items left on disk for the next run.
        dropped: Items lost or refused.
        last_error: The reason why the last of them was not sent.
        disk_error: The first error of the disk.
        incomplete: The nodes that lost details because of an internal error.
        fault: The first of these internal errors.
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
        """Return the counts that are not zero, in words."""
        numbers = ((name, getattr(self, name)) for name in ("sent", "replayed", "spooled", "dropped"))
        text = ", ".join(f"{number} {name}" for name, number in numbers if number) or "0 sent"
        if nodes := len(self.incomplete):
            text += f" (detail lost for {nodes} {'node' if nodes == 1 else 'nodes'})"
        return text

    @property
    def is_bad(self) -> bool:
        """Return whether items were unsent or lack details, or whether a killed process would have lost them."""
        return bool(self.spooled or self.dropped or self.disk_error or self.incomplete)

    @property
    def reason(self) -> str:
        """Return the reasons for that, on one line."""
        fault = f"internal error, with its traceback in the log: {self.fault}" if self.fault else ""
        sending = self.last_error if self.spooled or self.dropped else ""
        return "; ".join(filter(None, (sending, self.disk_error, fault)))


def one_line(error: Exception) -> str:
    """Return an error's type and the first line of its message."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
