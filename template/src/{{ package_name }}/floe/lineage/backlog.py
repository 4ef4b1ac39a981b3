"""The backlog of dead processes: their unsent events, in order, and an end for each run that they left open."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any

from openlineage.client.event_v2 import RunState
from openlineage.client.facet_v2 import error_message_run
from openlineage.client.serde import Serde

from ..delivery.journal import Journal, Line, claimed, journals, none_runs, read_lines
from ..delivery.state_folder import folder_lock
from .ended_runs import mark_ended

TERMINAL = {RunState.COMPLETE.value, RunState.FAIL.value, RunState.ABORT.value}
KILLED = "The process exited without reporting a result (killed, out of memory, host lost, or disk full)."
OPEN_JOURNALS = 64  # limit for those that wait for a second try, since each holds a file open


class OpenRun(Enum):
    """The state of a run that a dead process has left open."""

    LOST = "it ends now"
    GOES_ON = "another process continues it, or will"
    ENDED = "another process has ended it"


@dataclass(frozen=True, slots=True)
class Entry:
    """An event as JSON with its position in a journal.

    Attributes:
        run_id: Id of its run, or an empty string if it has none.
        journal: Its journal; None if the disk accepts no journals.
        offset: Its offset in the journal; None if it could not be written.
        in_memory: Its text; None if the text is read from the journal when the event is sent.
        start: Offset of the START of its run if this is an end that could not be written. A START that stays in the
            journal without its end looks like that of a killed process.
    """

    run_id: str
    journal: Journal | None
    offset: int | None
    in_memory: str | None = None
    start: int | None = None

    @property
    def text(self) -> str:
        """Return the event, or an empty string if its line is torn."""
        if self.in_memory is not None:
            return self.in_memory
        return self.journal.text(self.offset) if self.journal and self.offset is not None else ""

    @property
    def is_waiting(self) -> bool:
        """Return whether the event is still to be sent."""
        return bool(self.journal and self.offset in self.journal.waiting)

    def acknowledge(self) -> None:
        """Mark the event as no longer waiting."""
        if self.journal:
            self.journal.acknowledge(self.offset)
            if self.start is not None:
                self.journal.erase(self.start)


def all_lost(_: str) -> OpenRun:
    """Say of each run that it ends now: nothing is known about it."""
    return OpenRun.LOST


def unsent(
    folder: Path,
    own_run: str | None = None,
    deadline: float = 0.0,
    state_of: Callable[[str], OpenRun] = all_lost,
    is_running: Callable[[str], bool] = none_runs,
) -> Iterator[Entry]:
    """Yield the unsent events of dead processes, oldest first, and an end for each run that they left open.

    An event that the consumer does not acknowledge holds back the later events of its run. It is yielded again after
    all others, as long as some are acknowledged in the meantime. The run `own_run` gets no end, because it continues in
    this process. Of other open runs, `state_of` says whether they get one. Journals of other hosts are left alone while
    `is_running` says that their Dagster run goes on.

    Raises:
        TimeoutError: Another process was still replaying at `deadline` of `time.monotonic`. Without a deadline, nothing
            is raised, and the events are left to that process.
    """
    with folder_lock(folder, deadline) as is_exclusive, ExitStack() as stack:
        if not is_exclusive:  # two replays could send the start of a run after its end
            if deadline:
                raise TimeoutError(f"another process is sending the events in {folder}")
            return
        retries: list[Entry] = []
        open_journals: list[Journal] = []
        with_open_runs: set[Journal] = set()  # the START of a run that goes on has to stay
        runs_of_closed: set[str] = set()
        held_back: set[str] = set()
        ended = cache(lambda: _ended_runs(folder))  # read at most once, and only if a run is open
        for journal in claimed(folder, is_running):
            stack.enter_context(closing(journal))
            entries, goes_on = _entries(journal, own_run, ended, state_of)
            yield from _in_order(entries, held_back)
            still_waiting = [entry for entry in entries if entry.is_waiting]
            if goes_on:
                with_open_runs.add(journal)
            if still_waiting and len(open_journals) < OPEN_JOURNALS:
                open_journals.append(journal)
                retries += still_waiting
            else:
                runs_of_closed.update(entry.run_id for entry in still_waiting)
                journal.close(keep_as_last=not goes_on)
        while retries:
            yield from _in_order(retries, set(runs_of_closed))
            still_waiting = [entry for entry in retries if entry.is_waiting]
            if len(still_waiting) == len(retries):
                break
            retries = still_waiting
        for journal in open_journals:
            journal.close(keep_as_last=journal not in with_open_runs)


def run_of(line: Line) -> tuple[str, str]:
    """Return the run id and the state of an event."""
    event = line.content or {}
    run = event.get("run")
    return str(run.get("runId")) if isinstance(run, dict) else "", str(event.get("eventType"))


def root_of(file: Path) -> str:
    """Return the id of the run to which the first event of a journal belongs: the root of its parents, or itself."""
    with suppress(OSError):
        for line in read_lines(file):
            facets = ((line.content or {}).get("run") or {}).get("facets") or {}
            root = ((facets.get("parent") or {}).get("root") or {}).get("run") or {}
            return str(root.get("runId") or run_of(line)[0])
    return ""


def end_of(start: Mapping[str, Any], at: datetime, message: str) -> str:
    """Return an end, as JSON, for the run that `start` began and whose real end is unknown."""
    facet = Serde.to_dict(error_message_run.ErrorMessageRunFacet(message=message, programmingLanguage="python"))
    facet["_producer"] = start.get("producer", facet["_producer"])
    run = start["run"]
    facets = run.get("facets")
    end = {
        **start,
        "eventType": RunState.ABORT.value,
        "eventTime": max(at.isoformat(), str(start.get("eventTime"))),
        "run": {**run, "facets": {**(facets if isinstance(facets, dict) else {}), "errorMessage": facet}},
    }
    return json.dumps(end)


def _in_order(entries: Iterable[Entry], held_back: set[str]) -> Iterator[Entry]:
    """Yield the entries whose run is not `held_back`; add the runs of those that are not acknowledged after that."""
    for entry in entries:
        if entry.run_id not in held_back:
            yield entry
        if entry.run_id and entry.is_waiting:
            held_back.add(entry.run_id)


def _entries(
    journal: Journal, own_run: str | None, ended_anywhere: Callable[[], set[str]], state_of: Callable[[str], OpenRun]
) -> tuple[list[Entry], bool]:
    """Return the entries of a journal, with the ends of lost runs, and whether one of its runs goes on."""
    last_write = datetime.fromtimestamp(journal.last_beat, UTC)
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
        elif state == RunState.START.value and run_id and run_id not in ended:
            starts[run_id] = line.offset
    goes_on = False
    for run_id, offset in starts.items():
        if run_id == own_run or run_id in ended_anywhere():
            continue
        open_run = state_of(run_id)
        goes_on |= open_run is OpenRun.GOES_ON
        if open_run is OpenRun.LOST:
            end = end_of(json.loads(journal.text(offset)), last_write, KILLED)
            entries.append(Entry(run_id, journal, journal.append_or_hold(end), end))
            mark_ended(journal.file.parent, run_id)
    for run_id in ended:
        if journal.file.name.startswith(run_id):  # the Dagster run, whose process could not tell Dagster that it ended
            mark_ended(journal.file.parent, run_id)
    return entries, goes_on


def _ended_runs(folder: Path) -> set[str]:
    """Return the runs whose end is in a journal: several processes of one run may each have one."""
    ended = set()
    for file in journals(folder):
        with suppress(OSError):  # deleted in the meantime
            ended |= {run_id for run_id, state in map(run_of, read_lines(file)) if state in TERMINAL}
    return ended
