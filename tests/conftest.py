"""Fixtures: the template's snapshot, one default rendering for all tests, and its package as `pipeline`."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.combinations import Rendered, render_all
from tools.rendering import render, snapshot

# Its package is imported by tests of single modules, so it has to be there before they are collected.
_FOLDER = tempfile.TemporaryDirectory(prefix="floe-tests-")
_TEMPLATE = snapshot(Path(_FOLDER.name) / "template")
_PROJECT = render(_TEMPLATE, Path(_FOLDER.name) / "project", project_name="pipeline")
sys.path.insert(0, str(_PROJECT / "src"))

os.environ["FLOE_RAISE"] = "1"  # a fault in lineage or tracing is an error here
os.environ["DAGSTER_CLI_TELEMETRY"] = "0"


# The fast lane and `nox -s answers` try the same examples each time; `nox -s hostile` tries new ones.
settings.register_profile("fast", max_examples=25, derandomize=True, deadline=None, database=None)
settings.register_profile("answers", settings.get_profile("fast"), max_examples=200)
settings.register_profile(
    "hostile", settings.get_profile("fast"), max_examples=2000, derandomize=False, print_blob=True
)
settings.load_profile("fast")


@pytest.fixture(autouse=True)
def own_environment() -> Iterator[None]:
    """Take back the variables that OpenLineage's client makes of others: the next test would be configured by them."""
    yield
    for variable in [name for name in os.environ if name.startswith("OPENLINEAGE__TRANSPORT__")]:
        del os.environ[variable]


@pytest.fixture(scope="session")
def template() -> Path:
    """Return a copy of the template without git history; do not change it."""
    return _TEMPLATE


@pytest.fixture(scope="session")
def project() -> Path:
    """Return the default rendering, which `pipeline` is imported from; do not change it."""
    return _PROJECT


@pytest.fixture(scope="session")
def rendered(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Rendered:
    """Return combinations of the structural answers, rendered twice: with `--every-combination` all of them."""
    every = bool(request.config.getoption("every_combination"))
    return render_all(_TEMPLATE, tmp_path_factory.mktemp("combinations"), every=every)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--every-combination`."""
    text = "render all combinations of answers; without it, each answer at least once"
    parser.addoption("--every-combination", action="store_true", help=text)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Refuse to split a group of tests over workers: each would make anew what the group shares.

    Raises:
        UsageError: pytest-xdist was to group, and has not: it writes to a private field of pytest.
    """
    if getattr(session.config.option, "loadgroup", False):
        for item in session.items:
            if item.get_closest_marker("xdist_group") and "@" not in item.nodeid:
                raise pytest.UsageError(f"{item.nodeid} is in no group: this pytest-xdist does not fit this pytest")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show the lines that tests wrote with `record_property("summary", …)`."""
    reports = [report for reports in terminalreporter.stats.values() for report in reports]
    lines = [text for report in reports for name, text in getattr(report, "user_properties", ()) if name == "summary"]
    if lines:
        terminalreporter.section("figures")
    for line in dict.fromkeys(lines):
        terminalreporter.write_line(str(line))
