"""The column reader over the tables of the shapes, and its answers in the notation of the files."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from pipeline.floe.lineage.columns import Origin, QueryLineage, TableColumns, fold, read_query

from tools.sql.shapes import TABLES, TYPES, UNDOCUMENTED, Answer, Shape


def expected(shape: Shape) -> Answer | None:
    """Return the answer of a shape, its names as the dialect keeps them."""
    if shape.answer is None:
        return None
    columns = [(_folded(name, shape.dialect), origins) for name, origins in shape.answer.columns]
    left_out = [_folded(name, shape.dialect) for name in shape.answer.left_out]
    return replace(shape.answer, columns=columns, left_out=left_out)


def answered(shape: Shape) -> Answer | None:
    """Return what the reader says of a shape; the order of columns counts."""
    if shape.answer is None:
        return None
    query = read(shape.answer.sql, shape.dialect)
    return replace(
        shape.answer,
        columns=[(name, _shown(column.origins)) for name, column in query.columns.items() if column.known],
        rows=_shown(query.rows),
        left_out=query.left_out,
        complete=query.complete,
        rows_known=query.rows_known,
        problem=query.problem,
    )


def read(sql: str, dialect: str) -> QueryLineage:
    """Return what the reader says of a query over the tables."""
    return read_query(sql, dialect, _tables(dialect))


@cache
def _tables(dialect: str) -> dict[str, TableColumns]:
    types = TYPES.get(dialect, {})
    return {
        table: TableColumns({fold(name, dialect): types.get(kind) for name, kind in columns.items()})
        if key not in UNDOCUMENTED
        else TableColumns({}, complete=False)
        for key, (table, columns) in TABLES.items()
    }


def _folded(name: str, dialect: str) -> str:
    folded: str = fold(name.strip('"'), dialect, quoted=name.startswith('"'))
    return folded


def _shown(origins: frozenset[Origin]) -> list[str]:
    return sorted(
        f"{_placeholder(origin.table)}.{origin.column.lower()} {origin.subtype or origin.type}" for origin in origins
    )


def _placeholder(text: str) -> str:
    return next((key for key, (table, _) in TABLES.items() if table == text), text)
