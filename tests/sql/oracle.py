"""The oracle: the names of a query's columns and the data on which each depends, as the engine itself shows them.

The query is stored as a table. Then each column of each table that it reads is changed in several ways, and what
changes in the result depends on it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from pipeline.floe.lineage.columns import QueryLineage

from tools.sql.shapes import TABLES

Row = tuple[Any, ...]
DAY = dt.date
DATA: dict[str, list[Row]] = {
    "customers": [
        (1, "Ada", "ada@x", "DE"),
        (2, "Bob", "bob@x", "FR"),
        (3, "Cid", "cid@x", "DE"),
        (4, "Dan", "dan@x", "IT"),
    ],
    "suppliers": [(1, "Ada", "ada@x", "DE"), (7, "Zed", "zed@x", "PL"), (3, "Cid", "cid@y", "DE")],
    "orders": [
        (1, 1, 10, "paid", DAY(2024, 1, 1), "n1"),
        (2, 1, 25, "open", DAY(2024, 1, 5), "n2"),
        (3, 2, 40, "paid", DAY(2024, 2, 1), "n3"),
        (4, 3, 5, "void", DAY(2024, 2, 11), None),
        (5, 3, 60, "paid", DAY(2024, 3, 1), "n5"),
    ],
    "payments": [(1, 1, 10, "card"), (2, 3, 20, "cash"), (3, 5, 60, "card"), (4, 2, 7, "card")],
    "carts": [
        (1, "Ada", ["a", "b"], {"city": "Bonn", "zip": "53"}, {"a": 3, "b": 4}),
        (2, "Bob", ["b"], {"city": "Lyon", "zip": "69"}, {"a": 9}),
        (3, "Cid", ["c", "a"], {"city": "Kiel", "zip": "24"}, {"a": 5, "c": 7}),
    ],
    "old_orders": [(1, 11, "paid"), (3, 41, "open"), (9, 90, "paid")],
    "events": [(1, "view", "p1"), (2, "click", "p2"), (3, "view", "p3")],
}


class EngineRefusalError(Exception):
    """The engine does not run a query."""


class Database(Protocol):
    """An engine with the tables of `TABLES`."""

    def fill(self, table: str, rows: list[Row]) -> None:
        """Replace the rows of a table, by its placeholder."""

    def names(self, sql: str) -> list[str]:
        """Store a query as a table, and return the names of its columns.

        Raises:
            EngineRefusalError: It cannot be stored.
        """

    def rows(self, sql: str) -> list[Row]:
        """Return the rows of a query.

        Raises:
            EngineRefusalError: It cannot be run.
        """


@dataclass(frozen=True)
class Seen:
    """What an engine shows of a query: its columns, each with the columns that it depends on."""

    dependences: dict[str, set[str]]


def watch(database: Database, sql: str) -> Seen:
    """Return what an engine shows of a query.

    Raises:
        EngineRefusalError: It does not run the query on the unchanged data.
    """
    names = database.names(sql)
    before = _columns(database.rows(sql), len(names))
    dependences: list[set[str]] = [set() for _ in names]
    for table, (text, columns) in TABLES.items():
        if text not in sql:
            continue
        for position, column in enumerate(columns):
            for changed in _changed(DATA[table], position):
                database.fill(table, changed)
                try:
                    after = _columns(database.rows(sql), len(names))
                except EngineRefusalError:
                    continue  # such as a subquery that now has two rows
                for old, new, seen in zip(before, after, dependences, strict=True):
                    if old != new:
                        seen.add(f"{text}.{column}")
        database.fill(table, DATA[table])
    return Seen(dict(zip(names, dependences, strict=True)))


def contradictions(
    query: QueryLineage, seen: Seen, unseen: Collection[str] = (), *, is_whole: bool = True
) -> Iterator[str]:
    """Yield what an engine shows and the reader denies, or states and the engine does not show.

    `unseen` are direct origins that need not show, as `table.column` with the placeholder of the table; unless
    `is_whole`, none need to.
    """
    names = list(seen.dependences)
    if query.problem:
        yield f"not read: {query.problem}"
    if query.complete and list(query.columns) != names:
        yield f"columns: {list(query.columns)}, the engine has {names}"
    deciding = {f"{origin.table}.{origin.column}".lower() for origin in query.rows}
    for name, column in query.columns.items():
        if name not in seen.dependences:
            yield f"{name}: the engine has only {names}"
            continue
        if not column.known:
            continue
        stated = {f"{origin.table}.{origin.column}".lower() for origin in column.origins}
        direct = {f"{o.table}.{o.column}".lower() for o in column.origins if o.type == "DIRECT"}
        missing = seen.dependences[name] - stated - deciding
        if missing and query.rows_known:
            yield f"{name}: depends on {sorted(missing)} too; stated: {sorted(stated)}, of the rows: {sorted(deciding)}"
        invented = direct - seen.dependences[name] - {_full(column) for column in unseen}
        if is_whole and invented:
            yield f"{name}: does not depend on {sorted(invented)}"


def _full(column: str) -> str:
    table, _, name = column.partition(".")
    return f"{TABLES[table][0]}.{name}"


def _columns(rows: list[Row], count: int) -> list[list[str]]:
    return [sorted(repr(row[position]) for row in rows) for position in range(count)]


def _changed(rows: list[Row], position: int) -> Iterator[list[Row]]:
    values = [row[position] for row in rows]
    for new in (
        [_other(value, number) for number, value in enumerate(values)],
        [*values[1:], values[0]],
        [values[1], values[1], None, *values[3:]],  # a duplicate and a null
    ):
        yield [(*row[:position], value, *row[position + 1 :]) for row, value in zip(rows, new, strict=True)]


def _other(value: Any, number: int) -> Any:
    match value:
        case int():
            return value + number * 7 + 3
        case str():
            return f"{value}~{number}"
        case DAY():
            return value + dt.timedelta(days=11 * number + 5)
        case list():
            return [*(f"{item}~{number}" for item in value), *["zz"] * (number % 2)]
        case dict():
            return {key: _other(item, number) for key, item in value.items()}
    return value
