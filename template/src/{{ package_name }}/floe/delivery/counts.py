"""The counts of what became of the items of a run."""

from __future__ import annotations

from dataclasses import dataclass, field


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


def one_line(error: Exception) -> str:
    """Return what an error says, shortened to its first line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
