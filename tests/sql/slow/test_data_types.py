"""Tests of the column reader's data types for values of every type, on PostgreSQL and Spark."""

from __future__ import annotations

import pytest

from tests.sql.databases import DATABASES
from tests.sql.types_of import stated


@pytest.mark.parametrize("dialect", ["postgres", "spark"])
def test_engine(dialect: str) -> None:
    """Whatever type is stated, the engine's own result has it."""
    with DATABASES[dialect]() as database:
        types = list(stated(dialect, database))

    assert [] == [wrong for wrong in types if wrong[1] != wrong[2]]
    assert 80 <= len(types)
