"""The cache of column lineage between runs: a JSON file with the query of each node and the table that it built last.

A query is valid only for exactly the input from which it was made, so it is never out of date. A table is stored once
dbt has built it, under its name in the database, so that it replaces what another node has built there. Its columns are
unknown once a build of it has failed, or has started and never ended: a second file lists the builds of a process that
have started, and outlives a killed one. A file that cannot be read counts as empty.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from ...delivery.state_folder import make_state_folder
from . import ColumnLineage, Origin, QueryLineage, TableColumns

# Version of the file format and of the SQL reading; increase it when either changes.
VERSION = 8
# The end of the name of a file with the tables whose builds a process has started, a name in JSON per line.
STARTED = ".started"


@dataclass(frozen=True, slots=True)
class BuiltTable:
    """A table as it was built last.

    Attributes:
        owner: The unique id of the node that built it, its relation and the kind of its materialization.
        checksum: dbt's checksum of the node's file.
        definition: A hash of everything that the node itself says about the table's columns.
        since: The time in seconds since which the table, and all that it reads, has had the same definition.
        table: Its columns, or None if they are not known.
    """

    owner: tuple[str, str, str] = ("", "", "")
    checksum: Any = None
    definition: str = ""
    since: float = 0.0
    table: TableColumns | None = None


class ColumnCache:
    """The entries of one project, read on first use and written by `save` if any have changed."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._started_file = file.with_name(f"{file.name}.{uuid4().hex}{STARTED}") if file else None
        self._has_folder = False
        self._entries: dict[str, Any] | None = None
        self._changes: dict[str, Any] = {}

    def get(self, name: str, key: str) -> Any:
        """Return the value that was put under the same name and key, or None."""
        entry = self._read().get(name)
        return entry["value"] if entry and entry["key"] == key else None

    def put(self, name: str, key: str, value: Any) -> None:
        """Store a value, replacing the previous one of this name."""
        self._read()[name] = self._changes[name] = {"key": key, "value": value}

    def start_table(self, name: str) -> None:
        """Record on disk that a build of a table has started, which may change it even if this process is killed."""
        if self._started_file:
            with contextlib.suppress(OSError):
                if not self._has_folder:
                    make_state_folder(self._started_file.parent)
                    self._has_folder = True
                with self._started_file.open("a", encoding="utf-8") as stream:
                    stream.write(f"{json.dumps(name)}\n")

    def table(self, name: str) -> BuiltTable | None:
        """Return a table as it was built last; None if this project has not built it."""
        entry = self._read().get(_table(name))
        return _built_table(entry["value"]) if entry else None

    def put_table(self, name: str, built: BuiltTable) -> None:
        """Store a table that has been built, or whose columns are no longer known."""
        table = built.table
        known = [list(table.columns.items()), table.complete, table.in_order, table.spellings] if table else None
        self.put(_table(name), "", [built.owner, built.checksum, built.definition, built.since, known])

    def forget_tables(self) -> None:
        """Record, also on disk, that the columns of all tables may have changed."""
        prefix = _table("")
        for name in [name for name in self._read() if name.startswith(prefix)]:
            self.put_table(name.removeprefix(prefix), BuiltTable(since=time.time()))
        self.save()

    def query(self, name: str, key: str) -> QueryLineage | None:
        """Return the query of a model for the same input; None if there is none."""
        value = self.get(name, key)
        if value is None:
            return None
        columns = {
            name: ColumnLineage(frozenset(Origin(*origin) for origin in origins), data_type, known)
            for name, data_type, known, origins in value["columns"]
        }
        rows = frozenset(Origin(*origin) for origin in value["rows"])
        return QueryLineage(
            columns,
            rows,
            complete=value["complete"],
            rows_known=value["rows_known"],
            in_order=value["in_order"],
            open_tables=tuple(value["open_tables"]),
            problem=value["problem"],
        )

    def put_query(self, name: str, key: str, query: QueryLineage) -> None:
        """Store the query of a model."""
        value = {
            "columns": [
                [name, column.type, column.known, sorted(map(astuple, column.origins))]
                for name, column in query.columns.items()
            ],
            "rows": sorted(map(astuple, query.rows)),
            "complete": query.complete,
            "rows_known": query.rows_known,
            "in_order": query.in_order,
            "open_tables": query.open_tables,
            "problem": query.problem,
        }
        self.put(name, key, value)

    def save(self) -> None:
        """Write the file completely or not at all; a full or read-only disk only costs the next run time."""
        if self._file is None:
            return
        temporary = self._file.with_name(f"{self._file.name}.{uuid4().hex}")  # a process id is not unique over hosts
        with contextlib.suppress(OSError):
            started = self._started_files()
            # Another process may have written its tables since this one has read the file.
            entries = self._stored() | self._changes
            if self._changes or started:
                make_state_folder(self._file.parent)
                try:
                    temporary.touch(mode=0o600)
                    temporary.write_text(json.dumps({"version": VERSION, "nodes": entries}), encoding="utf-8")
                    temporary.replace(self._file)
                finally:
                    temporary.unlink(missing_ok=True)  # what a full disk has left of it
                self._changes = {}
            # If the process of a file is alive, it stores its tables itself when it ends.
            for file in [*started, *([self._started_file] if self._started_file else [])]:
                file.unlink(missing_ok=True)

    def _read(self) -> dict[str, Any]:
        if self._entries is None:
            self._entries = self._stored()
        return self._entries

    def _stored(self) -> dict[str, Any]:
        entries: dict[str, Any] = {}
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            content = json.loads(self._file.read_bytes()) if self._file else {}
            if content["version"] == VERSION:
                entries = dict(content["nodes"])
        unknown = {"key": "", "value": [*astuple(BuiltTable(since=time.time()))]}
        for file in self._started_files():
            entries |= dict.fromkeys(map(_table, _names(file)), unknown)
        return entries

    def _started_files(self) -> list[Path]:
        """Return the files of other processes whose builds have started; the process may have been killed since."""
        files = self._file.parent.glob(f"{self._file.name}.*{STARTED}") if self._file else ()
        return [file for file in files if file != self._started_file]


def _names(file: Path) -> Iterator[str]:
    with contextlib.suppress(OSError, ValueError):  # deleted in the meantime, or torn
        for line in file.read_text(encoding="utf-8").splitlines():
            yield json.loads(line)


def _table(name: str) -> str:
    return f"table {name}"


def _built_table(value: Any) -> BuiltTable:
    owner, checksum, definition, since, table = value
    if table is None:
        return BuiltTable(tuple(owner), checksum, definition, since)
    columns, complete, in_order, spellings = table
    known = TableColumns(dict(columns), complete=complete, in_order=in_order, spellings=tuple(spellings))
    return BuiltTable(tuple(owner), checksum, definition, since, known)
