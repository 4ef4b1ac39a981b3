"""The time that the deliveries of one Dagster run may still wait for a receiver that does not answer.

A run may have hundreds of steps, each in a process of its own. They share one budget: a step that has waited in vain
writes the seconds to the state folder, and the others wait only for what is left. Waiting that succeeds costs nothing.
"""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

from .limits import BUDGET_SECONDS
from .state_folder import make_state_folder

FOLDER = "budgets"
SUFFIX = ".seconds"
KEPT_SECONDS = 86_400
# After the budget is spent, each step waits half as long as the one before it, which adds up to half a second.
LAST_SECONDS = 0.25

# Also in memory, for steps that share a process and for a state folder that cannot be written.
_spent: dict[Path, list[float]] = {}


def seconds_left(state_dir: Path, run_id: str) -> float:
    """Return the seconds that the deliveries of a run may wait when a step ends."""
    file = _file(state_dir, run_id)
    spent = _spent.get(file, [])
    with suppress(OSError, ValueError):
        written = file.read_text(encoding="utf-8").split()
        spent = max(spent, [float(seconds) for seconds in written], key=len)
    return max(BUDGET_SECONDS - sum(spent), LAST_SECONDS * 0.5 ** len(spent))


def is_spent(state_dir: Path, run_id: str) -> bool:
    """Return whether the deliveries of a run have waited so long in vain that no further one should try old items."""
    return seconds_left(state_dir, run_id) < LAST_SECONDS


def spend(state_dir: Path, run_id: str, seconds: float) -> None:
    """Record that the deliveries of a run have waited in vain; old records are removed."""
    file = _file(state_dir, run_id)
    before = _spent.get(file, [])
    _spent.clear()
    _spent[file] = [*before, seconds]
    with suppress(OSError):
        make_state_folder(file.parent)
        with file.open("a", encoding="utf-8") as stream:
            stream.write(f"{seconds:.3f}\n")
        for old in file.parent.glob(f"*{SUFFIX}"):
            if old.stat().st_mtime < time.time() - KEPT_SECONDS:
                old.unlink()


def _file(state_dir: Path, run_id: str) -> Path:
    return state_dir / FOLDER / f"{run_id}{SUFFIX}"
