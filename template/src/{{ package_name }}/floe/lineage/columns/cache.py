"""The cache of column lineage between runs: a JSON file with the query of each node and the table that it built last.

A query is valid only for exactly the input from which it was made, so it is never out of date. A table is stored once
dbt has built it, and forgotten once a build of it has failed. A file that cannot be read counts as empty.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import astuple
from pathlib import Path
from typing import Any

from ...delivery.state_folder import make_state_folder
from . import ColumnLineage, Origin, QueryLineage, TableColumns

# Version of the file format and of the SQL reading; increase it when either changes.
VERSION = 5


class ColumnCache:
    """The entries of one project, read on first use and written by `save` if any have changed."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._entries: dict[str, Any] | None = None
        self._changes: dict[str, Any] = {}

    def get(self, name: str, key: str) -> Any:
        """Return the value that was put under the same name and key, or None."""
        entry = self._read().get(name)
        return entry["value"] if entry and entry["key"] == key else None

    def put(self, name: str, key: str, value: Any) -> None:
        """Store a value, replacing the previous one of this name."""
        self._read()[name] = self._changes[name] = {"key": key, "value": value}

    def table(self, name: str, checksum: Any) -> TableColumns | None:
        """Return a table as it was built last, if its node has not changed since."""
        entry = self._read().get(_table(name))
        return _table_columns(entry["value"]) if checksum and entry and entry["key"] == checksum else None

    def last_table(self, name: str, kind: str) -> TableColumns | None:
        """Return a table as it was built last, whatever its node is now, if it was of the same kind."""
        entry = self._read().get(_table(name))
        return _table_columns(entry["value"]) if entry and entry["value"][-1] == kind else None

    def put_table(self, name: str, checksum: Any, kind: str, table: TableColumns) -> None:
        """Store a table that has been built, with the kind of its materialization."""
        self.put(_table(name), checksum, [list(table.columns.items()), table.complete, table.in_order, kind])

    def forget_table(self, name: str) -> None:
        """Forget a table that may have changed in an unknown way."""
        self._changes[_table(name)] = None
        self._read().pop(_table(name), None)

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
        if self._file is None or not self._changes:
            return
        temporary = self._file.with_name(f"{self._file.name}.{os.getpid()}")
        # Another process may have written its tables since this one has read the file.
        entries = {name: entry for name, entry in (self._stored() | self._changes).items() if entry is not None}
        with contextlib.suppress(OSError):
            make_state_folder(self._file.parent)
            temporary.touch(mode=0o600)
            temporary.write_text(json.dumps({"version": VERSION, "nodes": entries}), encoding="utf-8")
            temporary.replace(self._file)
            self._changes = {}

    def _read(self) -> dict[str, Any]:
        if self._entries is None:
            self._entries = self._stored()
        return self._entries

    def _stored(self) -> dict[str, Any]:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            content = json.loads(self._file.read_bytes()) if self._file else {}
            if content["version"] == VERSION:
                return dict(content["nodes"])
        return {}


def _table(name: str) -> str:
    return f"table {name}"


def _table_columns(value: Any) -> TableColumns:
    columns, complete, in_order, _ = value
    return TableColumns(dict(columns), complete, in_order)
