"""Tests of a command's parent run and options, from the environment and the command line."""

from __future__ import annotations

import json

import pytest
from pipeline.floe.lineage.parents import CommandInfo, JobRun, outer_run

RUN, ROOT = "0192f0b5-0a2f-7f4d-9a5e-000000000001", "0192f0b5-0a2f-7f4d-9a5e-000000000002"
PARENT = {"run": {"runId": RUN}, "job": {"namespace": "prod", "name": "daily.build"}}


def test_none() -> None:
    """Without the variables Dagster itself is the root."""
    assert None is outer_run({})


def test_parent_is_root() -> None:
    """A parent without a root is the root."""
    parent = JobRun("prod", "daily.build", RUN)

    assert (parent, parent) == outer_run({"OPENLINEAGE_PARENT_ID": f"prod/daily.build/{RUN}"})


def test_context() -> None:
    """OPENLINEAGE_CONTEXT is read as dbt-ol reads it, and wins."""
    root = {"run": {"runId": ROOT}, "job": {"namespace": "prod", "name": "daily"}}
    environment = {
        "OPENLINEAGE_CONTEXT": json.dumps({"parent": PARENT | {"root": root}}),
        "OPENLINEAGE_PARENT_ID": f"other/job/{RUN}",
    }

    assert (JobRun("prod", "daily.build", RUN), JobRun("prod", "daily", ROOT)) == outer_run(environment)


@pytest.mark.parametrize(
    "environment",
    [
        {"OPENLINEAGE_PARENT_ID": "prod/daily"},
        {"OPENLINEAGE_PARENT_ID": "prod/daily/7"},
        {"OPENLINEAGE_CONTEXT": "{"},
        {"OPENLINEAGE_CONTEXT": "[]"},
        {"OPENLINEAGE_CONTEXT": '{"parent": {}}'},
    ],
)
def test_malformed(environment: dict[str, str], caplog: pytest.LogCaptureFixture) -> None:
    """A parent that names no run is left out, with a warning that says what to write."""
    assert None is outer_run(environment)
    assert "namespace/job/uuid" in caplog.text


def test_parameters() -> None:
    """The command and its options are told, the values of variables not."""
    arguments = ["dbt", "build", "--target", "prod", "--vars", "{password: hunter2}", "--full-refresh", "--select=a b"]

    assert [
        ("command", "build"),
        ("target", "prod"),
        ("vars", "[hidden]"),
        ("full-refresh", "true"),
        ("select", "a b"),
    ] == CommandInfo(project_name="shop", arguments=arguments).parameters


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [([], False), (["-f"], True), (["--full-refresh"], True), (["--full-refresh", "--no-full-refresh"], False)],
)
def test_full_refresh(arguments: list[str], expected: bool) -> None:
    """The last word on the command line counts."""
    assert expected is CommandInfo(project_name="shop", arguments=arguments).full_refresh
