"""Tests of the functions that the column reader knows in addition to sqlglot, on PostgreSQL and Spark."""

from __future__ import annotations

import pytest

from tests.sql.builtins import misjudged
from tests.sql.databases import DATABASES


@pytest.mark.parametrize("dialect", ["postgres", "spark"])
def test_engine(dialect: str) -> None:
    """The reader takes each aggregate of the engine for one, and what it lists as a function of one row is one."""
    with DATABASES[dialect]() as database:
        functions = database.functions()

    assert [] == misjudged(functions, dialect)
    assert 300 <= len(functions)
