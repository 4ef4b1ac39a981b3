"""The column reader over the grammar walk: right or left out, in seven dialects, without an engine."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.sql.shapes import DIALECTS, GROUPS, Shape, all_shapes, present, read, shown


@pytest.mark.parametrize("shape", present(), ids=str)
def test_shape(shape: Shape) -> None:
    """What the reader says of a shape is what was checked by hand and, where it runs, against the engine."""
    answer = shape.answer
    assert answer is not None
    query = read(answer.sql, shape.dialect)

    assert answer.problem == query.problem
    assert {name: sorted(origins) for name, origins in answer.columns.items()} == {
        name: shown(column.origins) for name, column in query.columns.items() if column.known
    }
    assert list(answer.columns) == [name for name, column in query.columns.items() if column.known]  # in this order
    assert answer.left_out == query.left_out
    assert sorted(answer.rows) == shown(query.rows)
    assert (answer.complete, answer.rows_known) == (query.complete, query.rows_known)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_number(dialect: str) -> None:
    """Each dialect is walked in at least forty shapes, of every group, and most are read without a gap."""
    shapes = [shape for shape in present() if shape.dialect == dialect]
    outcomes = Counter(shape.outcome for shape in shapes)

    assert 40 <= len(shapes)
    assert set(GROUPS) == {shape.group for shape in shapes}
    assert outcomes["left out"] < outcomes["right"] / 2


def test_reasons() -> None:
    """A dialect lacks a shape for a reason, and a shape's name stands once in its group."""
    names = Counter((shape.group, shape.name, shape.dialect) for shape in all_shapes())

    assert [] == [str(shape) for shape in all_shapes() if not (shape.answer or shape.reason)]
    assert [] == [name for name, count in names.items() if count > 1]
