"""Tests of the column reader on all shapes: right or left out, in seven dialects, without an engine."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.sql.reading import answered, expected
from tools.sql.shapes import DIALECTS, GROUPS, all_shapes, present


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("dialect", DIALECTS)
def test_group(dialect: str, group: str) -> None:
    """What the reader says of each shape was checked by hand and, where the engine runs here, against it."""
    shapes = [shape for shape in present() if (shape.dialect, shape.group) == (dialect, group)]

    assert {shape.name: expected(shape) for shape in shapes} == {shape.name: answered(shape) for shape in shapes}


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
