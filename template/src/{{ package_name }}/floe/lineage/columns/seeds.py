"""The columns of seed files, as dbt loads them into new tables."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ...dbt.manifest_graph import Node
from . import TableColumns, fold
from .cache import ColumnCache

# A seed's file and node -> the types of its columns from dbt's adapter.
SeedTypes = Callable[[Path, Node], Mapping[str, str]]
SEED_BYTES = 1024 * 1024  # dbt's own limit for hashing a seed; the types of larger ones are not worth reading the file


class SeedFiles:
    """The columns of seed files. Those of a file that has not changed come from the cache."""

    def __init__(self, dialect: str, column_cache: ColumnCache, types: SeedTypes) -> None:
        self._dialect = dialect
        self._cache = column_cache
        self._types = types

    def columns(self, node: Node, cache_key: str) -> TableColumns:
        """Return the columns of a new table of a seed; they are incomplete if its file cannot be read."""
        file = Path(node.get("root_path") or ".") / node.get("original_file_path", "")
        cached = self._cached(file, node, cache_key) if file.is_file() else []
        # If the engine turns unquoted names into upper case, dbt quotes a seed's header only if configured to.
        quoted = fold("a", self._dialect) == "a" or bool(node.get("config", {}).get("quote_columns"))
        columns = {fold(name, self._dialect, quoted=quoted): data_type for name, data_type in cached}
        return TableColumns(columns, complete=bool(columns))

    def _cached(self, file: Path, node: Node, cache_key: str) -> Sequence[tuple[str, str | None]]:
        """Return the names and types of the columns in a file."""
        checksum = node.get("checksum") or {}
        if checksum.get("name") == "path":  # dbt does not hash the content of large seeds
            checksum = {**checksum, "changed": file.stat().st_mtime_ns}
        config = node.get("config", {})
        key = json.dumps([checksum, config.get("column_types"), config.get("delimiter"), self._dialect])
        cached: Sequence[tuple[str, str | None]] | None = self._cache.get(cache_key, key)
        if cached is None:
            types = dict(self._types(file, node)) if file.stat().st_size <= SEED_BYTES else {}
            cached = [(name, types.get(name)) for name in _names(_header(file, node), types)]
            self._cache.put(cache_key, key, cached)
        return cached


def _header(file: Path, node: Node) -> list[str]:
    with file.open(encoding="utf-8-sig", newline="") as lines:
        return next(csv.reader(lines, delimiter=node.get("config", {}).get("delimiter") or ","), [])


def _names(header: Sequence[str], types: Mapping[str, str]) -> Sequence[str]:
    """Return the names that dbt gives to the columns of a seed; it renames blank and repeated ones."""
    if all(name and name == name.strip() for name in header) and len({name.lower() for name in header}) == len(header):
        return header
    return list(types) if len(types) == len(header) else ()
