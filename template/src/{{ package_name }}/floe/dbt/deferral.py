"""Deferral (`--defer`): whether a node reads a table of this run's target or of another run's.

dbt decides for each reference while it compiles, by what exists and by `--favor-state`, and does not say in its
manifest how. In: the manifest that is deferred to, and the compiled code. Out: the tables that the code itself names.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import orjson

Node = Mapping[str, Any]
# A name in SQL: its parts in lower case, without quotes.
Name = tuple[str, ...]

REFERABLE = {"model", "seed", "snapshot"}
# Marks a node that stands for a table of the run that is deferred to.
DEFERRED = "floe_deferred"


class Deferral:
    """The tables that a dbt command may read in place of its own."""

    def __init__(self, manifest: Path) -> None:
        """Take the path of the manifest that is deferred to; it is read when it is first needed."""
        self._manifest = manifest

    @classmethod
    def of(cls, arguments: Sequence[str], project_dir: Path) -> Deferral | None:
        """Return what a dbt command defers to, by its arguments and the environment; nothing if it does not."""
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
        """Return the table that another run has made of the same node, unless it is the very same table.

        It is described as the other run had it: its SQL, its documentation, its owner.
        """
        other = self._nodes.get(table["unique_id"])
        if other is None or not other.get("relation_name") or other["relation_name"] == table.get("relation_name"):
            return None
        # The other run's files are not here; this run's serve for a seed that has not changed.
        same = other.get("checksum") == table.get("checksum")
        file = table.get("original_file_path") if same else ""
        return {**other, "root_path": table.get("root_path"), "original_file_path": file, DEFERRED: True}

    @cached_property
    def _nodes(self) -> Mapping[str, Node]:
        if not self._manifest.is_file():  # dbt says so itself, and fails
            return {}
        nodes: Mapping[str, Node] = orjson.loads(self._manifest.read_bytes())["nodes"]
        return {unique_id: node for unique_id, node in nodes.items() if node["resource_type"] in REFERABLE}


def names_in(code: str, dialect: str, *, is_python: bool = False) -> set[Name]:
    """Return the names of two and more parts in SQL, or in the strings of a model in Python; comments do not count."""
    texts = _strings(code) if is_python else [code]
    return {name for text in texts for name in _names(text, dialect)}


def is_named(relation: str, names: set[Name], dialect: str) -> bool:
    """Say whether a relation, as dbt writes it, is among `names`, be it as the first parts of a column's name."""
    wanted = max(_names(relation, dialect), key=len, default=())
    return bool(wanted) and any(name[: len(wanted)] == wanted for name in names)


def option(arguments: Sequence[str], name: str) -> str | None:
    """Return the value of a command's option, given as `--name value` or `--name=value`."""
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
            # BigQuery takes a whole name between two backquotes.
            name = token.text.lower().split(".") if token.token_type in {TokenType.VAR, TokenType.IDENTIFIER} else []
    yield from [tuple(name)] if len(name) > 1 else []


def _strings(code: str) -> list[str]:
    try:
        tree = ast.parse(code)
    except SyntaxError:
        return []
    return [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
