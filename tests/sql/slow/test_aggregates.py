"""Tests of the aggregates that the column reader recognizes, on PostgreSQL and Spark."""

from __future__ import annotations

import pytest

from tests.sql.databases import DATABASES
from tests.sql.unrecognized import unrecognized


@pytest.mark.parametrize("dialect", ["postgres", "spark"])
def test_engine(dialect: str) -> None:
    """The reader takes each aggregate of the engine for one."""
    with DATABASES[dialect]() as database:
        names = database.aggregates()

    assert [] == unrecognized(names, dialect)
    assert 50 <= len(names)
