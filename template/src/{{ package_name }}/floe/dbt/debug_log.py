"""dbt's debug log: the error messages, row counts and query ids that dbt Core writes nowhere else.

In: the `dbt.log` of a running dbt, as JSON lines. Out: the `NodeFinished` events of a node. dbt writes the node's own
event shortly after the result that it prints, so the reader waits for it, but only for a short time.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import orjson

WAIT_SECONDS = 0.05
POLL_SECONDS = 0.002
WANTED = ('"NodeFinished"',)
STATEMENTS = ('"SQLQuery"', '"SQLQueryStatus"')


class DebugLog:
    """A reader that follows a `dbt.log` while dbt writes it, across its rotation at 10 MB."""

    def __init__(self, path: Path, *, statements: bool = False) -> None:
        """Follow the file at `path`; with `statements`, collect the events of each node's SQL as well."""
        self._path = path
        self._wanted = WANTED + STATEMENTS if statements else WANTED
        self._file: IO[str] | None = None
        self._partial = ""
        self._finished: dict[str, list[Mapping[str, Any]]] = {}
        self._statements: dict[str, list[Mapping[str, Any]]] = {}
        # Only this command's events count: `dbt retry` appends to the file of the previous command.
        self.invocation_id: str | None = None

    def finished(self, unique_id: str, is_wanted: Callable[[Mapping[str, Any]], bool]) -> list[Mapping[str, Any]]:
        """Return the `NodeFinished` events under a node's id, including those of a microbatch model's batches.

        Wait until `is_wanted` accepts one of them, but no longer than `WAIT_SECONDS`.
        """
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            self._read()
            events = self._finished.get(unique_id, [])
            if any(map(is_wanted, events)) or self._file is None or time.monotonic() > deadline:
                return self._finished.pop(unique_id, [])
            time.sleep(POLL_SECONDS)

    def statements(self, unique_id: str) -> list[Mapping[str, Any]]:
        """Return the `SQLQuery` and `SQLQueryStatus` events of a finished node, and forget them."""
        return self._statements.pop(unique_id, [])

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _read(self) -> None:
        if self._file is None and not self._open():
            return
        self._take_lines()
        if self._rotated() and self._open():
            self._take_lines()

    def _open(self) -> bool:
        self.close()
        if self._path.exists():
            self._file = self._path.open(encoding="utf-8", errors="replace")
        return self._file is not None

    def _rotated(self) -> bool:
        if self._file is None or not self._path.exists():
            return False
        return os.fstat(self._file.fileno()).st_ino != self._path.stat().st_ino

    def _take_lines(self) -> None:
        if self._file is None:
            return
        *lines, self._partial = (self._partial + self._file.read()).split("\n")
        for line in lines:
            # Parse only these lines, because a debug log has megabytes of others.
            if any(name in line for name in self._wanted):
                self._take(line)

    def _take(self, line: str) -> None:
        try:
            event = orjson.loads(line)
            name, unique_id = event["info"]["name"], str(event["data"]["node_info"]["unique_id"])
        except (ValueError, KeyError, TypeError):  # not about a node, or incomplete
            return
        if self.invocation_id not in {None, event["info"].get("invocation_id")}:
            return
        if name == "NodeFinished":
            self._finished.setdefault(unique_id, []).append(event)
        else:
            self._statements.setdefault(unique_id, []).append(event)
