"""Tests of the functions that the column reader knows in addition to sqlglot."""

from __future__ import annotations

import pytest
from pipeline.floe.lineage.columns.functions import AGGREGATE_NAMES
from pipeline.floe.lineage.columns.meanings import aggregates
from sqlglot import exp, parse_one

from tests.sql.builtins import misjudged, unrecognized
from tests.sql.databases import DuckDB


def test_duckdb() -> None:
    """The reader takes each aggregate of DuckDB for one, and what it lists as a function of one row is one."""
    assert [] == misjudged(DuckDB().functions(), "duckdb")


@pytest.mark.parametrize("dialect", [dialect.__name__.lower() for dialect in AGGREGATE_NAMES])
def test_listed(dialect: str) -> None:
    """Each listed name is needed: sqlglot alone does not know it as an aggregate."""
    names = next(names for engine, names in AGGREGATE_NAMES.items() if engine.__name__.lower() == dialect)
    known = [name for name in names if parse_one(f"select {name}(x)", dialect=dialect).find(exp.AggFunc)]

    assert [] == known
    assert [] == unrecognized(names, dialect)


def test_schema() -> None:
    """A function with a schema is the owner's, whatever its name is."""
    call = parse_one("select shop.mean(x)", dialect="duckdb").find(exp.Anonymous)

    assert call is not None
    assert None is aggregates(call, "duckdb")
