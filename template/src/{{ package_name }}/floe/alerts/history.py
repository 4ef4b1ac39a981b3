"""The memory between evaluations: how far Dagster's events have been read, and what has failed and not recovered."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

FILE = "history.json"
MOST = 2000  # open failures of each kind; beyond that, the oldest are forgotten


@dataclass(slots=True, kw_only=True)
class OpenRun:
    """A failed run whose job has not succeeded since.

    Attributes:
        job_name: Name of the job in Dagster.
        partition: The run's partition, blank without.
        selection: What the run was limited to: keys of assets, or ops; None for the whole job.
        root: Id of the run that it repeats, or its own.
        at: Time of the failure.
        failures: The number of failed runs in a row.
        owners: Its owners.
    """

    job_name: str
    partition: str
    selection: list[str] | None
    root: str
    at: float
    failures: int = 1
    owners: list[str] = field(default_factory=list)

    def is_same(self, other: OpenRun) -> bool:
        """Return whether both runs build the same."""
        return (self.job_name, self.partition, self.selection) == (other.job_name, other.partition, other.selection)

    def is_repaired_by(self, success: OpenRun) -> bool:
        """Return whether a successful run has built all that this one should have."""
        if success.root == self.root:
            return True
        if (self.job_name, self.partition) != (success.job_name, success.partition):
            return False
        return success.selection is None or (self.selection is not None and {*self.selection} <= {*success.selection})


@dataclass(slots=True, kw_only=True)
class OpenSubject:
    """A failed check or a late asset.

    Attributes:
        at: Time of the failure.
        owners: The owners of the asset.
        run_id: Id of the run that failed as well, and whose message names the check; blank if it had its own message.
    """

    at: float
    owners: list[str] = field(default_factory=list)
    run_id: str = ""


@dataclass(slots=True)
class History:
    """The state after an evaluation.

    Attributes:
        last_run_event: Storage id of the last event about a run that was read; None before the first evaluation.
        last_event: Cursor of the last event without a run.
        last_event_id: Storage id of that event.
        runs: The failed runs.
        checks: The failed checks, by name.
        late: The late assets, by key.
        rests: Channel -> number of failures in a row, and the time before which it is not tried again.
        last_run_at: Time of the event `last_run_event`, because SQLite uses the ids of deleted events again.
        last_event_at: Time of the event `last_event_id`.
    """

    last_run_event: int | None = None
    last_event: str = ""
    last_event_id: int = -1
    runs: list[OpenRun] = field(default_factory=list)
    checks: dict[str, OpenSubject] = field(default_factory=dict)
    late: dict[str, OpenSubject] = field(default_factory=dict)
    rests: dict[str, tuple[int, float]] = field(default_factory=dict)
    last_run_at: float = 0.0
    last_event_at: float = 0.0

    def forget_oldest(self) -> None:
        """Forget the oldest open failures if there are too many."""
        self.runs = self.runs[-MOST:]
        for subjects in (self.checks, self.late):
            for name in sorted(subjects, key=lambda name: subjects[name].at)[:-MOST]:
                del subjects[name]

    def cursor(self) -> str:
        """Return what Dagster is to keep, in case the state folder is lost."""
        return json.dumps(
            [self.last_run_event, self.last_event, self.last_event_id, self.last_run_at, self.last_event_at]
        )


def read_history(folder: Path, cursor: str | None) -> History:
    """Return the state that the folder contains; without one, the position that Dagster has kept as `cursor`."""
    with suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
        document = json.loads((folder / FILE).read_text(encoding="utf-8"))
        return History(
            document["last_run_event"],
            document["last_event"],
            document["last_event_id"],
            [OpenRun(**run) for run in document["runs"]],
            {name: OpenSubject(**subject) for name, subject in document["checks"].items()},
            {name: OpenSubject(**subject) for name, subject in document["late"].items()},
            {name: (int(failures), float(until)) for name, (failures, until) in document["rests"].items()},
            float(document.get("last_run_at", 0.0)),
            float(document.get("last_event_at", 0.0)),
        )
    history = History()
    with suppress(ValueError, TypeError):
        position = json.loads(cursor or "")
        history.last_run_event, history.last_event, history.last_event_id = position[:3]
        history.last_run_at, history.last_event_at = position[3:] or (0.0, 0.0)
    return history


def write_history(folder: Path, history: History) -> None:
    """Write the state, at once or not at all.

    Raises:
        OSError: The disk accepts nothing.
    """
    history.forget_oldest()
    write_file(folder / FILE, json.dumps(asdict(history)))


def write_file(file: Path, text: str) -> None:
    """Write a file that only its owner may read, at once or not at all.

    Raises:
        OSError: The disk accepts nothing.
    """
    temporary = file.with_name(f"{file.name}.{os.getpid()}.tmp")
    with os.fdopen(os.open(temporary, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(file)


def repaired(history: History, success: OpenRun) -> list[OpenRun]:
    """Remove and return the failed runs that a successful run repairs."""
    found = [run for run in history.runs if run.is_repaired_by(success)]
    history.runs = [run for run in history.runs if run not in found]
    return found


def add_failed(history: History, failed: OpenRun) -> None:
    """Add a failed run; of runs that build the same, only the first failure's time and their number stay."""
    same = [run for run in history.runs if run.is_same(failed)]
    if same:
        failed.at = min(run.at for run in same)
        failed.failures += sum(run.failures for run in same)
    history.runs = [*_without(history.runs, same), failed]


def _without(runs: Iterable[OpenRun], others: list[OpenRun]) -> list[OpenRun]:
    return [run for run in runs if run not in others]
