"""The functions of an engine that the column reader takes for something else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from pipeline.floe.lineage.columns.functions import SCALAR_NAMES
from pipeline.floe.lineage.columns.meanings import aggregates
from sqlglot import exp, parse_one
from sqlglot.dialects.dialect import Dialect
from sqlglot.errors import SqlglotError

ARGUMENTS = ("x", "x, y", "x, 1, 2", "")


def unrecognized(names: Iterable[str], dialect: str) -> list[str]:
    """Return those of the aggregates `names` whose calls the reader does not take for aggregates."""
    return [name for name in sorted(names) if not any(_is_recognized(call, dialect) for call in _calls(name, dialect))]


def misjudged(functions: Mapping[str, set[str]], dialect: str) -> list[str]:
    """Return the functions that the engine and the reader's lists disagree about; `functions` has their kinds."""
    listed = SCALAR_NAMES[type(Dialect.get_or_raise(dialect))]
    wrong = sorted(name for name in listed if functions.get(name) != {"scalar"})
    return wrong + unrecognized((name for name, kinds in functions.items() if kinds == {"aggregate"}), dialect)


def _calls(name: str, dialect: str) -> Iterator[exp.Expr]:
    for arguments in ARGUMENTS:
        try:
            yield parse_one(f"select {name}({arguments}) from t", dialect=dialect).expressions[0]
        except SqlglotError:
            continue


def _is_recognized(call: exp.Expr, dialect: str) -> bool:
    return any(aggregates(node, dialect) for node in call.walk())
