"""The cache of column lineage between runs: a JSON file with one entry per node.

An entry is valid only for exactly the input from which it was made, so it is never out of date. A file that cannot be
read counts as empty.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import astuple
from pathlib import Path
from typing import Any

from ...delivery.state_folder import make_state_folder
from . import ColumnLineage, Origin, QueryLineage

# Version of the file format and of the SQL reading; increase it when either changes.
VERSION = 4


class ColumnCache:
    """The entries of one project, read on first use and written by `save` if any are new."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._entries: dict[str, Any] | None = None
        self._changed = False

    def get(self, unique_id: str, key: str) -> Any:
        """Return the value that was put for a node under the same key, or None."""
        entry = self._read().get(unique_id)
        return entry["value"] if entry and entry["key"] == key else None

    def put(self, unique_id: str, key: str, value: Any, checksum: Any = None) -> None:
        """Store a node's value, replacing the previous one."""
        self._read()[unique_id] = {"key": key, "checksum": checksum, "value": value}
        self._changed = True

    def query(self, unique_id: str, *, key: str | None = None, checksum: Any = None) -> QueryLineage | None:
        """Return the query of a model for the same input, or at least for the same file; None if there is none."""
        entry = self._read().get(unique_id)
        if not entry or (entry["key"] != key and (checksum is None or entry["checksum"] != checksum)):
            return None
        value = entry["value"]
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

    def put_query(self, unique_id: str, key: str, checksum: Any, query: QueryLineage) -> None:
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
        self.put(unique_id, key, value, checksum)

    def save(self) -> None:
        """Write the file completely or not at all; a full or read-only disk only costs the next run time."""
        if self._file is None or not self._changed:
            return
        temporary = self._file.with_name(f"{self._file.name}.{os.getpid()}")
        with contextlib.suppress(OSError):
            make_state_folder(self._file.parent)
            temporary.touch(mode=0o600)
            temporary.write_text(json.dumps({"version": VERSION, "nodes": self._read()}), encoding="utf-8")
            temporary.replace(self._file)
            self._changed = False

    def _read(self) -> dict[str, Any]:
        if self._entries is None:
            self._entries = {}
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                content = json.loads(self._file.read_bytes()) if self._file else {}
                self._entries = content["nodes"] if content["version"] == VERSION else {}
        return self._entries
