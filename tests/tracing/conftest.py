"""The sample project with mistakes in it, and its runs, each made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tracing import runs


@pytest.fixture(scope="session")
def broken(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the sample project with a model that fails, one that is skipped, and a test that fails."""
    return runs.copy(project, tmp_path_factory.mktemp("tracing") / "project", runs.MISTAKES)
