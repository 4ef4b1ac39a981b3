"""Tests of a step that Dagster repeats: only what has failed or was skipped is built again, and no failed test."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tools import runs

JOBS = """
import dagster as dg

policy = dg.RetryPolicy(max_retries=2)
flaky = dg.define_asset_job("flaky", dg.AssetSelection.assets("flaky").upstream().downstream(), op_retry_policy=policy)
tested = dg.define_asset_job("tested", dg.AssetSelection.assets("tested", "below"), op_retry_policy=policy)
"""
FILES = {
    # Each dbt command leaves a file, and the model fails until there are three.
    "models/flaky.sql": """
        {% set folder = env_var('COUNT_DIR') %}
        {{ config(materialized='table', pre_hook="copy (select 1) to '" ~ folder ~ "/{{ invocation_id }}.csv'") }}
        select if((select count(*) from glob('{{ folder }}/*')) < 3, error('lost connection'), id) as id
        from {{ ref('solid') }}""",
    "models/solid.sql": "{{ config(materialized='table') }} select 1 as id",
    "models/child.sql": "select id from {{ ref('flaky') }}",
    "models/tested.sql": "select null::int as id",
    "models/below.sql": "select id from {{ ref('tested') }}",
    "models/retry.yml": "models: [{name: tested, columns: [{name: id, data_tests: [not_null]}]}]",
}


@pytest.fixture(scope="module")
def folder(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the sample project with a model that fails twice and a test that always fails."""
    folder = tmp_path_factory.mktemp("retry")
    (folder / "count").mkdir()
    os.environ["COUNT_DIR"] = str(folder / "count")
    return runs.copy(project, folder / "project", FILES, jobs=runs.JOBS + JOBS)


def launch(folder: Path, job: str) -> tuple[runs.Run, list[dict[str, Any]]]:
    """Run a job; return the run and its lineage events."""
    sent = folder.parent / f"{job}.ndjson"
    run = runs.launch(
        folder,
        job,
        COUNT_DIR=str(folder.parent / "count"),
        OPENLINEAGE__TRANSPORT__TYPE="file",
        OPENLINEAGE__TRANSPORT__LOG_FILE_PATH=str(sent),
        OPENLINEAGE__TRANSPORT__APPEND="true",
    )
    assert sent.is_file(), run.output[-5000:]
    return run, [json.loads(line) for line in sent.read_text().splitlines()]


def ends(events: list[dict[str, Any]]) -> dict[str, list[str]]:
    """Return how the runs of each job have ended, in order."""
    found: dict[str, list[str]] = {}
    for event in events:
        if event["eventType"] != "START":
            found.setdefault(event["job"]["name"], []).append(event["eventType"])
    return found


def test_transient(folder: Path) -> None:
    """A node that fails twice is built three times, with what depends on it, in one trace; the rest only once."""
    run, events = launch(folder, "flaky")
    outcomes = ends(events)

    assert ["COMPLETE"] == outcomes["model.pipeline.solid"] == outcomes["flaky"]
    assert ["FAIL", "FAIL", "COMPLETE"] == outcomes["model.pipeline.flaky"] == outcomes["dbt.pipeline"]
    assert ["ABORT", "ABORT", "COMPLETE"] == outcomes["model.pipeline.child"]
    assert {run.trace_id} == {span.trace_id.hex() for span in run.spans}
    names = Counter(span.name for span in run.spans)
    assert (1, 3, 3, 1) == (names["run flaky"], names["step dbt_models"], names["dbt"], names["model.pipeline.solid"])
    roots = {
        event["run"]["facets"]["parent"]["root"]["run"]["runId"]
        for event in events
        if "parent" in event["run"]["facets"]
    }
    assert {run.run_id} == roots


def test_failed_test(folder: Path) -> None:
    """A test that has failed is not repeated, nor is the step."""
    run, events = launch(folder, "tested")

    assert ["FAIL"] == ends(events)["dbt.pipeline"]
    assert 1 == [span.name for span in run.spans].count("step dbt_models")
    assert "FAIL 1 not_null_tested_id" in run.output
