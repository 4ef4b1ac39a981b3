"""The lock of a DuckDB file, for which a dbt command waits while another run uses the file.

DuckDB lets only one process open a file for writing, and dbt would fail at once. The lock is a file in the state folder
and ends with its process. Only runs through `observe` take it, so dbt by hand still fails.
"""

from __future__ import annotations

import logging
import os
import time
from hashlib import sha256
from pathlib import Path

from ..delivery.state_folder import Lock, make_state_folder, try_lock
from ..settings import Settings
from ..warehouse import DUCKDB
from .profile import ProfileError, read_output

POLL_SECONDS = 0.2
REMINDER_SECONDS = 60.0
VARIABLE = "DUCKDB_PATH"
JINJA = "{" * 2
# dbt's commands that do not connect.
UNCONNECTED = {"clean", "deps", "init", "list", "ls", "parse"}

# The files that this process holds. A step that starts a second command before the end of the first must not wait.
_held: set[Path] = set()


class DatabaseLock:
    """The lock of one database file, held by this process."""

    def __init__(self, file: Path, descriptor: int) -> None:
        self._file = file
        self._descriptor = descriptor
        _held.add(file)

    def release(self) -> None:
        """Let the next run use the file."""
        _held.discard(self._file)
        os.close(self._descriptor)


def lock_database(settings: Settings, command: str, log: logging.Logger) -> DatabaseLock | None:
    """Wait until no other run uses the DuckDB file of the chosen output; return None for other warehouses."""
    file = None if command in UNCONNECTED else _database(settings)
    if file is None or file in _held:
        return None
    lock_file = settings.state_dir / f"{sha256(str(file).encode()).hexdigest()[:16]}.lock"
    began = time.monotonic()
    logged = 0.0
    while True:
        try:
            make_state_folder(settings.state_dir)
            descriptor = os.open(lock_file, os.O_CREAT | os.O_RDWR, 0o600)  # again, because it may have been deleted
        except OSError:  # without a state folder, dbt fails as it would by hand
            return None
        if try_lock(descriptor, lock_file) is not Lock.REFUSED:
            break
        os.close(descriptor)
        if not logged or time.monotonic() - logged > REMINDER_SECONDS:
            logged = time.monotonic()
            log.info("Another run is using %s. This run waits for it, because DuckDB allows one at a time.", file)
        time.sleep(POLL_SECONDS)
    if logged:
        log.info("Waited %.0f seconds for %s.", time.monotonic() - began, file)
    return DatabaseLock(file, descriptor)


def _database(settings: Settings) -> Path | None:
    """Return the DuckDB file of the chosen output; None if it has another type, or is no local file."""
    try:
        output = read_output(settings)
    except ProfileError:  # dbt says so
        return None
    path = str(output.get("path") or "")
    if VARIABLE in path:
        path = os.environ.get(VARIABLE, "")
    if output.get("type") != DUCKDB.adapter or not path or ":" in path or JINJA in path:
        return None
    return (settings.dbt_project_dir / path).resolve()
