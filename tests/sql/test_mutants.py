"""Tests of randomly changed and combined shapes: no exception, and no contradiction on DuckDB."""

from __future__ import annotations

import pytest

from tests.sql.databases import duckdb
from tests.sql.mutants import mutants
from tests.sql.oracle import EngineRefusalError, contradictions, watch
from tests.sql.reading import read
from tools.sql.shapes import DIALECTS


@pytest.mark.parametrize("dialect", DIALECTS)
def test_no_fault(dialect: str) -> None:
    """Whatever the query, the reader has no fault of its own; what it cannot read is left out."""
    faults = [(query.problem, sql) for sql in mutants(dialect, 100, seed=0) if (query := read(sql, dialect)).problem]

    assert [] == faults


def test_duckdb() -> None:
    """What DuckDB shows of a changed shape that it runs contradicts nothing that the reader says."""
    wrong, run = [], 0
    with duckdb() as database:
        for sql in mutants("duckdb", 60, seed=0):
            try:
                seen = watch(database, sql)
            except EngineRefusalError:
                continue
            run += 1
            # A random filter may hide what a column is made of, so that is not asked for.
            wrong += [(fault, sql) for fault in contradictions(read(sql, "duckdb"), seen, is_whole=False)]

    assert [] == wrong
    assert 30 <= run
