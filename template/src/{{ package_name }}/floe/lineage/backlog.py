"""The backlog of dead processes: the order in which its events are sent, and an end for each open run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from openlineage.client.event_v2 import RunState
from openlineage.client.facet_v2 import error_message_run
from openlineage.client.serde import Serde

from ..delivery.journal import Journal, Line, claimed
from ..delivery.state import alone_in

TERMINAL = {RunState.COMPLETE.value, RunState.FAIL.value, RunState.ABORT.value}
KILLED = "The process exited without reporting a result (killed, out of memory, or host lost)."
OPEN_JOURNALS = 64  # that wait for a second try: each holds a file open


@dataclass(frozen=True, slots=True)
class Entry:
    """An event as JSON, and where it is kept.

    Attributes:
        run_id: Id of its run, blank if it is none.
        journal: Journal that keeps it; nothing if there is no disk.
        offset: Place in the journal; nothing if the disk did not take it.
        in_memory: Its text, unless that is read from the journal when it is sent.
    """

    run_id: str
    journal: Journal | None
    offset: int | None
    in_memory: str | None = None

    @property
    def text(self) -> str:
        """Return the event, blank if its line is torn."""
        if self.in_memory is not None:
            return self.in_memory
        return self.journal.text(self.offset) if self.journal and self.offset is not None else ""

    @property
    def is_waiting(self) -> bool:
        """Say whether it has not been acknowledged."""
        return bool(self.journal and self.offset in self.journal.waiting)

    def acknowledge(self) -> None:
        """Cross it off."""
        if self.journal:
            self.journal.acknowledge(self.offset)


def unsent(folder: Path, own_run: str | None = None, deadline: float = 0.0) -> Iterator[Entry]:
    """Yield the events that dead processes have not sent, oldest first, and an end of each run that they left open.

    An event that the consumer does not acknowledge holds back what follows it in its run. It is yielded again after
    all others, as long as some are acknowledged meanwhile. The run `own_run` is not ended: it goes on in this process.

    Raises:
        TimeoutError: Another process was still replaying at `deadline` of `time.monotonic`; without one, it is left to
            that process.
    """
    with alone_in(folder, deadline) as is_alone, ExitStack() as stack:
        if not is_alone:  # two replays could send the start of a run after its end
            if deadline:
                raise TimeoutError(f"another process is sending what waits in {folder}")
            return
        late: list[Entry] = []
        opened: list[Journal] = []
        closed: set[str] = set()
        behind: set[str] = set()
        for journal in claimed(folder):
            stack.enter_context(closing(journal))
            entries = _entries(journal, own_run)
            yield from _in_order(entries, behind)
            left = [entry for entry in entries if entry.is_waiting]
            if left and len(opened) < OPEN_JOURNALS:
                opened.append(journal)
                late += left
            else:
                closed.update(entry.run_id for entry in left)
                journal.close(keep_as_last=True)
        while late:
            yield from _in_order(late, set(closed))
            left = [entry for entry in late if entry.is_waiting]
            if len(left) == len(late):
                break
            late = left
        for journal in opened:
            journal.close(keep_as_last=True)


def run_of(line: Line) -> tuple[str, str]:
    """Return the run id and the state of an event."""
    event = line.content or {}
    run = event.get("run")
    return str(run.get("runId")) if isinstance(run, dict) else "", str(event.get("eventType"))


def end_of(start: Mapping[str, Any], at: datetime, message: str) -> str:
    """Return the end, as JSON, of the run that `start` began, and of which nothing else is known."""
    facet = Serde.to_dict(error_message_run.ErrorMessageRunFacet(message=message, programmingLanguage="python"))
    facet["_producer"] = start.get("producer", facet["_producer"])
    run = start["run"]
    end = {
        **start,
        "eventType": RunState.ABORT.value,
        "eventTime": max(at.isoformat(), str(start.get("eventTime"))),
        "run": {**run, "facets": {**(run.get("facets") or {}), "errorMessage": facet}},
    }
    return json.dumps(end)


def _in_order(entries: Iterable[Entry], behind: set[str]) -> Iterator[Entry]:
    """Yield the entries whose run is not `behind`; add the runs of those that are not acknowledged then."""
    for entry in entries:
        if entry.run_id not in behind:
            yield entry
        if entry.run_id and entry.is_waiting:
            behind.add(entry.run_id)


def _entries(journal: Journal, own_run: str | None) -> list[Entry]:
    last_sign = datetime.fromtimestamp(journal.file.stat().st_mtime, UTC)
    starts: dict[str, int] = {}
    ended: set[str] = set()
    entries = []
    for line in journal.read():
        run_id, state = run_of(line)
        if line.is_waiting:
            entries.append(Entry(run_id, journal, line.offset))
        if state in TERMINAL:
            ended.add(run_id)
            starts.pop(run_id, None)
        elif state == RunState.START.value and run_id not in ended:
            starts[run_id] = line.offset
    for run_id, offset in starts.items():
        if run_id != own_run:
            end = end_of(json.loads(journal.text(offset)), last_sign, KILLED)
            entries.append(Entry(run_id, journal, journal.append_or_hold(end), end))
    return entries
