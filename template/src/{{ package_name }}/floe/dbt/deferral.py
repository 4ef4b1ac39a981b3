"""Deferral (`--defer`): whether a node reads this run's table or that of another run.

dbt decides this per reference while it compiles, by which tables exist and by `--favor-state`. Its manifest does not
record the decision. In: the manifest that dbt defers to, and the compiled code. Out: the tables that the code names.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import orjson

from .artifacts import generated_at

Node = Mapping[str, Any]
# A name in SQL: its parts, in lower case and without quotes.
Name = tuple[str, ...]

REFERABLE = {"model", "seed", "snapshot"}
# Marks a node that represents a table of the run that dbt defers to, with the time of that run's manifest in seconds.
DEFERRED = "floe_deferred"


class Deferral:
    """The tables that a dbt command may read instead of its own."""

    def __init__(self, manifest: Path) -> None:
        """Defer to the manifest at this path, which is read when it is first needed."""
        self._manifest = manifest
        self.catalog_file = manifest.with_name("catalog.json")

    @classmethod
    def of(cls, arguments: Sequence[str], project_dir: Path) -> Deferral | None:
        """Return the deferral that a command's arguments and the environment ask for, or None."""
        if not _defers(arguments):
            return None
        state = (
            option(arguments, "--defer-state")
            or os.environ.get("DBT_DEFER_STATE")
            or option(arguments, "--state")
            or os.environ.get("DBT_STATE")
        )
        return cls(project_dir / state / "manifest.json") if state else None

    def other(self, table: Node) -> Node | None:
        """Return the table that the other run built from the same node, unless it is the same table.

        It has the SQL, documentation and owner that it had in the other run.
        """
        other = self._nodes.get(table["unique_id"])
        if other is None or not other.get("relation_name") or other["relation_name"] == table.get("relation_name"):
            return None
        # The other run's files are not available. For a seed that has not changed, this run's file will do.
        same = other.get("checksum") == table.get("checksum")
        file = table.get("original_file_path") if same else ""
        return {**other, "root_path": table.get("root_path"), "original_file_path": file}

    @cached_property
    def _nodes(self) -> Mapping[str, Node]:
        if not self._manifest.is_file():  # dbt reports this itself and fails
            return {}
        manifest: Mapping[str, Any] = orjson.loads(self._manifest.read_bytes())
        made = generated_at(manifest)
        mark = {DEFERRED: made.timestamp() if made else self._manifest.stat().st_mtime}
        nodes: Mapping[str, Node] = manifest["nodes"]
        return {unique_id: {**node, **mark} for unique_id, node in nodes.items() if node["resource_type"] in REFERABLE}


def names_in(code: str, dialect: str, *, is_python: bool = False) -> set[Name]:
    """Return the names with two or more parts in SQL, or in the strings of a Python model; ignore comments."""
    texts = _strings(code) if is_python else [code]
    return {name for text in texts for name in _names(text, dialect)}


def is_named(relation: str, names: set[Name], dialect: str) -> bool:
    """Return whether `names` contains a relation as dbt writes it, possibly as the qualifier of a column."""
    wanted = max(_names(relation, dialect), key=len, default=())
    return bool(wanted) and any(name[: len(wanted)] == wanted for name in names)


def option(arguments: Sequence[str], name: str) -> str | None:
    """Return the value of a command's option, written as `--name value` or `--name=value`."""
    for position, argument in enumerate(arguments):
        if argument == name:
            return next(iter(arguments[position + 1 :]), None)
        if argument.startswith(f"{name}="):
            return argument.partition("=")[2]
    return None


def _defers(arguments: Sequence[str]) -> bool:
    switches = [argument for argument in arguments if argument in {"--defer", "--no-defer"}]
    if switches:
        return switches[-1] == "--defer"
    return os.environ.get("DBT_DEFER", "").lower() in {"1", "t", "true", "y", "yes", "on"}


def _names(text: str, dialect: str) -> Iterator[Name]:
    from sqlglot import TokenType, tokenize
    from sqlglot.errors import SqlglotError

    try:
        tokens = tokenize(text, read=dialect)
    except (SqlglotError, ValueError):
        return
    name: list[str] = []
    after_dot = False
    for token in tokens:
        if token.token_type is TokenType.DOT:
            after_dot = bool(name)
        elif after_dot:
            name += token.text.lower().split(".")
            after_dot = False
        else:
            yield from [tuple(name)] if len(name) > 1 else []
            # BigQuery accepts a whole dotted name within one pair of backquotes.
            name = token.text.lower().split(".") if token.token_type in {TokenType.VAR, TokenType.IDENTIFIER} else []
    yield from [tuple(name)] if len(name) > 1 else []


def _strings(code: str) -> list[str]:
    try:
        tree = ast.parse(code)
    except SyntaxError:
        return []
    return [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
