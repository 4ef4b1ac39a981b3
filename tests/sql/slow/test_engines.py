"""Tests of each shape on real engines: their columns and dependencies agree with the expected answer."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.sql.databases import DATABASES
from tests.sql.mutants import mutants
from tests.sql.oracle import Database, EngineRefusalError, contradictions, watch
from tests.sql.reading import read
from tools.sql.shapes import Shape, present

MUTANTS = {"duckdb": 500, "postgres": 500, "spark": 40}  # Spark takes a second each


@pytest.fixture(scope="module")
def database(request: pytest.FixtureRequest) -> Iterator[tuple[str, Database]]:
    """Start each engine in turn."""
    with DATABASES[request.param]() as database:
        yield request.param, database


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give each engine its own shapes."""
    if "shape" in metafunc.fixturenames:
        shapes = [
            shape for shape in present() if shape.dialect in DATABASES and shape.answer and not shape.answer.engine
        ]
        pairs = [(shape.dialect, shape) for shape in shapes]
        metafunc.parametrize(
            ("database", "shape"), pairs, indirect=["database"], ids=list(map(str, shapes)), scope="module"
        )
    else:
        metafunc.parametrize("database", DATABASES, indirect=True, scope="module")


def test_shape(database: tuple[str, Database], shape: Shape) -> None:
    """The engine runs the shape, and nothing that it shows contradicts what the reader says of it."""
    assert shape.answer is not None
    seen = watch(database[1], shape.answer.sql)

    said = list(contradictions(read(shape.answer.sql, shape.dialect), seen, shape.answer.unseen))
    assert [] == said


def test_mutants(database: tuple[str, Database]) -> None:
    """What the engine shows of shapes changed and combined at random contradicts nothing that the reader says."""
    dialect, engine = database
    wrong, run = [], 0
    for sql in mutants(dialect, MUTANTS[dialect], seed=1):
        try:
            seen = watch(engine, sql)
        except EngineRefusalError:
            continue
        run += 1
        wrong += [(fault, sql) for fault in contradictions(read(sql, dialect), seen, is_whole=False)]

    assert [] == wrong
    assert MUTANTS[dialect] / 2 <= run
