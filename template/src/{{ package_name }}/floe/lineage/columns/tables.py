"""The tables that a query names, with their known columns."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from sqlglot import exp
from sqlglot.errors import SqlglotError

from .model import UNKNOWN, ColumnLineage, Origin, TableColumns
from .names import Names
from .relation import NamedColumn, Relation


class Tables:
    """The known tables, by their text in SQL: a name in parts, a file, or a function that reads a file."""

    def __init__(self, tables: Mapping[str, TableColumns], names: Names) -> None:
        self._tables = tables
        self._names = names
        self._keys: dict[tuple[str, ...], str | None] = {}
        self.open: dict[str, None] = {}
        for key in tables:
            parts = _parts(_parsed(key, names.dialect), names.dialect)
            # A shorter name that two tables share names neither. A single part may be a common table expression.
            for start in range(max(len(parts) - 1, 1)):
                self._keys[parts[start:]] = None if parts[start:] in self._keys else key

    def relation(self, named: exp.Table) -> Relation | None:
        """Return the relation that a table's name stands for, or None if it is a function that reads no known table."""
        key = self._keys.get(_parts(named, self._names.dialect))
        if key is None:
            if not isinstance(named.this, exp.Identifier):
                return None
            self.open[".".join(part.name for part in named.parts)] = None
            return Relation()
        table = self._tables[key]
        if not table.complete:
            self.open[key] = None
        return Relation(
            [
                NamedColumn(name, ColumnLineage(frozenset({Origin(key, name)}), data_type))
                for name, data_type in (dict.fromkeys(table.spellings) | dict(table.columns)).items()
            ],
            table.complete,
            partial(self._unlisted, key),
            in_order=table.in_order,
        )

    def _unlisted(self, key: str, column: str) -> ColumnLineage:
        # If names keep their spelling, only the warehouse knows it.
        return UNKNOWN if self._names.keeps_spelling else ColumnLineage(frozenset({Origin(key, column)}))


def _parsed(text: str, dialect: str) -> exp.Expr:
    try:
        return exp.maybe_parse(text, into=exp.Table, dialect=dialect)
    except SqlglotError:
        return exp.table_(text)


def _parts(table: exp.Expr, dialect: str) -> tuple[str, ...]:
    if isinstance(table, exp.Table) and not isinstance(table.this, exp.Identifier):
        return (table.this.sql(dialect),) if table.this is not None else ()
    return tuple(part.name.lower() for part in table.parts) if isinstance(table, exp.Table) else ()
