"""The projects of the targets, each with its engine; `--target` chooses one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.engines.project import Project, project_of
from tools.rendering import TARGETS


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--target`, and `--rows` for what a session shows at its end."""
    parser.addoption("--target", choices=TARGETS, action="append", help="build this target only; may be repeated")
    parser.addoption("--rows", type=Path, help="folder that takes each target's row in the table of results")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give each test that builds the targets in turn; all tests of a target run on one engine."""
    if "built" in metafunc.fixturenames or "running_project" in metafunc.fixturenames:
        targets = metafunc.config.getoption("--target") or TARGETS
        grouped = [pytest.param(target, marks=pytest.mark.xdist_group(target)) for target in targets]
        metafunc.parametrize("running_project", grouped, indirect=True, scope="session", ids=targets)


@pytest.fixture(scope="session")
def running_project(
    request: pytest.FixtureRequest, template: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Project]:
    """Render a target's sample project, install it, and start its engine."""
    target: str = request.param
    with project_of(target, template, tmp_path_factory.mktemp("targets") / target) as project:
        yield project
