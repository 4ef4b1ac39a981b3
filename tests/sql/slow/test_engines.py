"""Each shape on the engines that run here: their own columns, and what these depend on, agree with the answer."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.sql.databases import DATABASES
from tests.sql.oracle import Database, contradictions, watch
from tests.sql.reading import read
from tests.sql.shapes import Shape, present

SHAPES = [shape for shape in present() if shape.dialect in DATABASES]


@pytest.fixture(scope="module", params=list(DATABASES))
def database(request: pytest.FixtureRequest) -> Iterator[tuple[str, Database]]:
    """Start each engine in turn."""
    with DATABASES[request.param]() as database:
        yield request.param, database


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give each engine its own shapes."""
    if "shape" in metafunc.fixturenames:
        pairs = [(shape.dialect, shape) for shape in SHAPES if shape.answer and not shape.answer.engine]
        metafunc.parametrize(("database", "shape"), pairs, indirect=["database"], ids=[str(shape) for _, shape in pairs])


def test_shape(database: tuple[str, Database], shape: Shape) -> None:
    """The engine runs the shape, and nothing that it shows contradicts what the reader says of it."""
    assert shape.answer is not None
    seen = watch(database[1], shape.answer.sql)

    said = list(contradictions(read(shape.answer.sql, shape.dialect), seen, shape.answer.unseen))
    assert [] == said
