"""Fixtures: the template's snapshot, one default rendering for all tests, and its package as `pipeline`."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import pytest

from tests.rendering import render, snapshot

# Its package is imported by tests of single modules, so it has to be there before they are collected.
_FOLDER = tempfile.TemporaryDirectory(prefix="floe-tests-")
_TEMPLATE = snapshot(Path(_FOLDER.name) / "template")
_PROJECT = render(_TEMPLATE, Path(_FOLDER.name) / "project", project_name="pipeline")
sys.path.insert(0, str(_PROJECT / "src"))

os.environ["FLOE_RAISE"] = "1"  # a fault in lineage or tracing is an error here
os.environ["DAGSTER_CLI_TELEMETRY"] = "0"


@pytest.fixture(scope="session")
def template() -> Path:
    """Return a copy of the template without git history; do not change it."""
    return _TEMPLATE


@pytest.fixture(scope="session")
def project() -> Path:
    """Return the default rendering, which `pipeline` is imported from; do not change it."""
    return _PROJECT
