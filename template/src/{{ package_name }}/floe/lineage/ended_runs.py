"""Marks of the runs whose end is in a journal, or was sent.

The daemon's sensor ends runs that Dagster knows to be lost. The marks tell it which of them have their end already,
from another process or from their own, which was killed before it could tell Dagster. A mark is an empty file.
"""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

from ..delivery.state_folder import make_state_folder

FOLDER = "ended"
KEPT_SECONDS = 2 * 86_400


def mark_ended(folder: Path, run_id: str) -> None:
    """Mark a run whose end is in a journal of `folder`."""
    with suppress(OSError, ValueError):  # a full disk, or an id that is no file name
        make_state_folder(folder / FOLDER)
        (folder / FOLDER / run_id).touch(mode=0o600)


def is_marked(folder: Path, run_id: str) -> bool:
    """Return whether a run was marked."""
    return (folder / FOLDER / run_id).exists()


def forget_old_marks(folder: Path) -> None:
    """Delete marks that are older than the runs which the sensor looks at."""
    for file in (folder / FOLDER).glob("*"):
        with suppress(OSError):  # deleted in the meantime
            if time.time() - file.stat().st_mtime > KEPT_SECONDS:
                file.unlink()
