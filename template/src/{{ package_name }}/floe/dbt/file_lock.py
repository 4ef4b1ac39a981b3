"""The lock of a DuckDB file, for which a dbt command waits while another run uses the file.

DuckDB lets only one process open a file for writing, and dbt would fail at once. The lock is a file next to the
database, and ends with its process. Only runs through `observe` take it, so dbt by hand still fails.
"""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import IO, Any

from ..delivery.state_folder import Lock, try_lock
from ..settings import Settings
from ..warehouse import DUCKDB
from .profile import ProfileError, read_output

POLL_SECONDS = 0.2
VARIABLE = "DUCKDB_PATH"
JINJA = "{" * 2
# dbt's commands that do not connect.
UNCONNECTED = {"clean", "deps", "init", "list", "ls", "parse"}

# The files that this process holds. A step that starts a second command before the end of the first must not wait.
_held: set[Path] = set()


class DatabaseLock:
    """The lock of one database file, held by this process."""

    def __init__(self, file: Path, stream: IO[Any]) -> None:
        self._file = file
        self._stream = stream
        _held.add(file)

    def release(self) -> None:
        """Let the next run use the file."""
        _held.discard(self._file)
        self._stream.close()


def lock_database(settings: Settings, command: str, log: logging.Logger) -> DatabaseLock | None:
    """Wait until no other run uses the DuckDB file of the chosen output; return None for other warehouses."""
    file = None if command in UNCONNECTED else _database(settings)
    if file is None or file in _held:
        return None
    lock_file = file.with_name(f"{file.name}.lock")
    try:
        stream = lock_file.open("a")
    except OSError:  # DuckDB cannot write there either, and dbt says so
        return None
    began = time.monotonic()
    is_waiting = False
    try:
        while try_lock(stream.fileno(), lock_file) is Lock.REFUSED:
            if not is_waiting:
                is_waiting = True
                log.info("Another run is using %s. This run waits for it, because DuckDB allows one at a time.", file)
            time.sleep(POLL_SECONDS)
    except BaseException:
        stream.close()
        raise
    if is_waiting:
        log.info("Waited %.0f seconds for %s.", time.monotonic() - began, file)
    return DatabaseLock(file, stream)


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
    return settings.dbt_project_dir / path
