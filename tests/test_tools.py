"""Tests of the folders: `tools/` lies below benchmarks and tests, and benchmarks below tests."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tools.rendering import REPOSITORY

ABOVE = {"tools": {"tests", "benchmarks", "demo"}, "benchmarks": {"tests", "demo"}, "demo.py": {"tests", "benchmarks"}}


def upward(root: Path, part: str) -> list[str]:
    """Return the imports in a folder or file of what lies above it, each as `file: module`."""
    path = root / part
    found = []
    for file in [path] if path.is_file() else sorted(path.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            modules += [name.name for name in node.names] if isinstance(node, ast.Import) else []
            above = [module for module in modules if module.partition(".")[0] in ABOVE[part]]
            found += [f"{file.relative_to(root)}: {module}" for module in above]
    return found


@pytest.mark.parametrize("part", ABOVE)
def test_imports(part: str) -> None:
    """Nothing imports from what lies above it."""
    assert [] == upward(REPOSITORY, part)


def test_upward_import(tmp_path: Path) -> None:
    """An import from above is found, also within a function."""
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "receiver.py").write_text("def later():\n    from tests.faults import drive\n")

    assert ["tools/receiver.py: tests.faults"] == upward(tmp_path, "tools")
