"""The aggregates of an engine that the column reader does not take for aggregates."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pipeline.floe.lineage.columns.meanings import aggregates
from sqlglot import exp, parse_one
from sqlglot.errors import SqlglotError

ARGUMENTS = ("x", "x, y", "x, 1, 2", "")


def unrecognized(names: Iterable[str], dialect: str) -> list[str]:
    """Return those of the aggregates `names` whose calls the reader does not take for aggregates."""
    return [name for name in sorted(names) if not any(_is_recognized(call, dialect) for call in _calls(name, dialect))]


def _calls(name: str, dialect: str) -> Iterator[exp.Expr]:
    for arguments in ARGUMENTS:
        try:
            yield parse_one(f"select {name}({arguments}) from t", dialect=dialect).expressions[0]
        except SqlglotError:
            continue


def _is_recognized(call: exp.Expr, dialect: str) -> bool:
    return any(aggregates(node, dialect) for node in call.walk())
