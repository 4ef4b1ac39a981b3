"""Tests of the recordings of dbt on each target: they are complete and can be published."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tools.record import COUNTED, RECORDED, excerpt, excerpt_file
from tools.rendering import TARGETS

# Where files lie on a machine, and what keys and tokens look like.
PRIVATE = re.compile(
    r"/(home|root|tmp|usr|var|work|Users)/|floe-|BEGIN [A-Z ]*PRIVATE KEY|Bearer |password=|127\.0\.0\.1:\d"
)


@pytest.fixture(params=TARGETS)
def recording(request: pytest.FixtureRequest) -> Path:
    """Return the folder of a target's recording."""
    return RECORDED / str(request.param)


def test_every_status_is_recorded(recording: Path) -> None:
    """Each recording has a node of every outcome, and dbt's events tell of the same nodes as its results."""
    results = json.loads((recording / "run_results.json").read_text())["results"]
    finished = [json.loads(line) for line in (recording / "debug_log.jsonl").read_text().splitlines()]
    told = {event["data"]["node_info"]["unique_id"] for event in finished}

    assert {result["status"] for result in results} == COUNTED
    assert {result["unique_id"] for result in results if result["status"] not in {"skipped", "no-op"}} <= told


def test_every_node_is_in_the_manifest(recording: Path) -> None:
    """Each node that an event speaks of stands in the recorded manifest."""
    manifest = json.loads((recording / "manifest.json").read_text())
    nodes = manifest["nodes"].keys() | manifest["unit_tests"].keys() | manifest["exposures"].keys()
    events = [json.loads(line) for line in (recording / "events.jsonl").read_text().splitlines()]

    assert {event["data"]["node_info"]["unique_id"] for event in events if "node_info" in event["data"]} <= nodes


def test_nothing_private_is_recorded(recording: Path) -> None:
    """No recording holds a secret or a path of the machine that it was made on."""
    found = {
        f"{file.relative_to(recording)}: {match.group()}"
        for file in recording.rglob("*")
        if file.is_file() and (match := PRIVATE.search(file.read_text()))
    }

    assert found == set()


def test_excerpt(recording: Path) -> None:
    """A project has the excerpt of its target's recording; `nox -s record -- --excerpt` writes it."""
    text = excerpt_file(recording.name).read_text()

    assert excerpt(recording) == text
    assert PRIVATE.search(text) is None
