"""Fixtures of the sample project with mistakes in it, and of its runs; each run is made once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tools import runs
from tools.runs import Run

# With SQL or without.
WAYS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "http, spawn, SQL": ("http/protobuf", runs.multiprocess("spawn"), {"FLOE_TRACE_SQL": "1"}),
    "grpc, forkserver": ("grpc", runs.multiprocess("forkserver"), {}),
}


@pytest.fixture(scope="session")
def broken(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the sample project with a model that fails, one that is skipped, and a test that fails."""
    return runs.copy(project, tmp_path_factory.mktemp("tracing") / "project", runs.MISTAKES)


@pytest.fixture(scope="session", params=WAYS)
def run(request: pytest.FixtureRequest, broken: Path) -> Run:
    """Return a run of the whole project; a model fails, so that one is skipped, and a test fails."""
    protocol, config, variables = WAYS[request.param]
    return runs.launch(broken, config=config, protocol=protocol, tags=None, **variables)
