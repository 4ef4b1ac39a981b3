"""The statements of a node that dbt writes only to its debug log: the SQL of snapshots, and whether a table is new.

In: the `dbt.log` of a running dbt, as JSON lines. Out: the query from which a snapshot takes its rows, and whether dbt
has created a node's table or added rows to it. dbt wraps the query in a statement of its own
(`snapshot_staging_table` and `build_snapshot_table` in dbt's global project). If a project overrides those macros, no
query is found.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import orjson

# The text next to the query in the log, in the statements of the first run and of later runs.
SNAPSHOT_QUERIES = (b") sbq", b"snapshot_query as (")
COMMENTS = r"(?:\s|/\*.*?\*/|--[^\n]*\n)*"
CREATES = re.compile(
    COMMENTS + r"(?:create\s+(?:or\s+replace\s+)?(?:transient\s+|unlogged\s+)?table\s+(?P<created>.{1,500})"
    r"|alter\s+table\s.{1,500}?\srename\s+to\s+(?P<renamed>.{1,200}))",
    re.IGNORECASE | re.DOTALL,
)
CHANGES = re.compile(COMMENTS + r"(?:insert|merge|delete|update|truncate|copy)\b", re.IGNORECASE | re.DOTALL)


class SnapshotLog:
    """A reader of a `dbt.log` that reads each line once, across rotations of the file."""

    def __init__(self, path: Path, dialect: str) -> None:
        """Follow the file at `path`, whose SQL is in sqlglot's `dialect`."""
        self._path = path
        self._dialect = dialect
        self._offset = 0
        self._queries: dict[str, str] = {}
        # The tables that a node has created in a command, and whether it has changed rows.
        self._created: dict[tuple[str, str], list[str]] = {}
        self._changed: set[tuple[str, str]] = set()

    def query(self, unique_id: str) -> str | None:
        """Return the query of a snapshot, or None if dbt has not run it yet."""
        self._take_new()
        return self._queries.get(unique_id)

    def is_new(self, unique_id: str, invocation_id: str, relation: str) -> bool | None:
        """Return whether a command has created the table `relation` or only changed its rows; None if that is unknown.

        A command may write to the log of an earlier one, such as `dbt retry`.
        """
        self._take_new()
        key = (unique_id, invocation_id)
        if any(_names(text, relation) for text in self._created.get(key, ())):
            return True
        return False if key in self._changed else None

    def _take_new(self) -> None:
        for line in self._new_lines():
            if b'"SQLQuery"' in line:
                self._take(line)

    def _take(self, line: bytes) -> None:
        try:
            event = orjson.loads(line)
            unique_id, statement = str(event["data"]["node_info"]["unique_id"]), str(event["data"]["sql"])
        except (ValueError, KeyError, TypeError):  # not about a node, or incomplete
            return
        key = (unique_id, str(event["info"].get("invocation_id")))
        if match := CREATES.match(statement):
            self._created.setdefault(key, []).append(match["created"] or match["renamed"])
        elif CHANGES.match(statement):
            self._changed.add(key)
        is_snapshot = unique_id.startswith("snapshot.") and any(mark in line for mark in SNAPSHOT_QUERIES)
        if is_snapshot and (query := inner_query(statement, self._dialect)):
            self._queries[unique_id] = query

    def _new_lines(self) -> Iterator[bytes]:
        if not self._path.exists():
            return
        if self._path.stat().st_size < self._offset:
            yield from self._read(self._path.with_name(f"{self._path.name}.1"))
            self._offset = 0
        yield from self._read(self._path)

    def _read(self, file: Path) -> list[bytes]:
        if not file.exists():
            return []
        with file.open("rb") as stream:
            stream.seek(self._offset)
            content = stream.read()
        whole = content[: content.rfind(b"\n") + 1]
        self._offset += len(whole)
        return whole.splitlines()


def _names(text: str, relation: str) -> bool:
    """Return whether a text begins with a relation, or with its last part alone and nothing else."""
    rest = text[len(relation) :]
    if text.lower().startswith(relation.lower()):
        return not re.match(r"[\w.\"`$]", rest)
    return _last(text.strip().rstrip(";").strip()) == _last(relation)


def _last(relation: str) -> str:
    return relation.rpartition(".")[2].strip('"`[]').lower()


def inner_query(statement: str, dialect: str) -> str | None:
    """Return the query inside dbt's statement that builds a snapshot, verbatim."""
    from sqlglot import TokenType, tokenize  # imported only if lineage needs it
    from sqlglot.errors import SqlglotError

    try:
        tokens = tokenize(statement, read=dialect)
    except (SqlglotError, ValueError):
        return None
    opened: list[int] = []
    pairs: dict[int, int] = {}  # positions of matching parentheses, in both directions
    for position, token in enumerate(tokens):
        if token.token_type is TokenType.L_PAREN:
            opened.append(position)
        elif token.token_type is TokenType.R_PAREN and opened:
            partner = opened.pop()
            pairs[partner], pairs[position] = position, partner
    texts = [token.text.lower() for token in tokens]
    staged = [i + 2 for i in range(len(texts) - 2) if texts[i : i + 3] == ["snapshot_query", "as", "("]]
    built = [pairs.get(i) for i in range(len(texts) - 1) if texts[i : i + 2] == [")", "sbq"]]
    # If the project uses these names as well, its own occurrences are inside dbt's.
    start = staged[0] if staged else built[-1] if built else None
    if start is None or start not in pairs:
        return None
    return statement[tokens[start].end + 1 : tokens[pairs[start]].start].strip()
