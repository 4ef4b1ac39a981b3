"""Tests of the types and ends of dbt's nodes in a real run: batches, hooks, exposures, unit tests."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tools import runs
from tools.rendering import render
from tools.runs import Run, attributes

pytestmark = pytest.mark.xdist_group("nodes")

EVENTS = """
{{ config(materialized='table', event_time='happened_at') }}
select 1 as id, timestamp '{{ run_started_at }}' as happened_at
"""
# Three batches, the second of which fails as `what` has it.
BATCHES = """
{{{{ config(
    materialized='incremental', incremental_strategy='microbatch', event_time='happened_at', batch_size='day',
    begin=(run_started_at - modules.datetime.timedelta(days=2)).strftime('%Y-%m-%d'), concurrent_batches={concurrent}
) }}}}
{{% set middle = (run_started_at - modules.datetime.timedelta(days=1)).date() %}}
{{% if model.batch and model.batch.event_time_start.date() == middle %}} {what} {{% endif %}}
select id, happened_at from {{{{ ref('happenings') }}}}
"""
DATABASE = "select no_such_column from {{ ref('happenings') }} union all"
COMPILATION = "{{ exceptions.raise_compiler_error('no such thing') }}"
HEALTHY = {f"batches_{number}": (concurrent, "") for number, concurrent in enumerate((False, True))}
FAILING = {
    f"broken_batches_{number}": (concurrent, what)
    for number, (concurrent, what) in enumerate(
        [(False, DATABASE), (True, DATABASE), (False, DATABASE), (True, DATABASE), (False, COMPILATION)]
    )
}
FILES = {
    "models/happenings.sql": EVENTS,
    "models/after_batches.sql": "select * from {{ ref('broken_batches_0') }}\n",
    "models/unit_tested.sql": "select id * 2 as doubled from {{ ref('happenings') }}\n",
    "models/after_unit_tested.sql": "select * from {{ ref('unit_tested') }}\n",
    "models/nodes.yml": """
unit_tests:
  - name: doubles
    model: unit_tested
    given: [{input: ref('happenings'), rows: [{id: 1}]}]
    expect: {rows: [{doubled: 3}]}
exposures:
  - {name: well, type: dashboard, owner: {email: a@example.com}, depends_on: [ref('happenings')]}
  - {name: skipped, type: dashboard, owner: {email: a@example.com}, depends_on: [ref('after_batches')]}
""",
    **{
        f"models/{name}.sql": BATCHES.format(concurrent=concurrent, what=what)
        for name, (concurrent, what) in {**HEALTHY, **FAILING}.items()
    },
}
HOOKS = """
on-run-start: ["select 1 as one"]
on-run-end: ["select 2 as two", "select * from no_such_table", "select 3 as three"]
"""


@pytest.fixture(scope="module")
def run(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Return a run in which batches, a unit test and a hook fail, so that nodes, an exposure and a hook are skipped."""
    folder = tmp_path_factory.mktemp("nodes")
    made = render(template, folder / "rendered", project_name="pipeline", start_from="empty")
    project = runs.copy(made, folder / "project", FILES)
    with (project / "dbt" / "dbt_project.yml").open("a") as file:
        file.write(HOOKS)
    return runs.launch(project)


def ends(run: Run) -> dict[str, dict[str, Any]]:
    """Return the terminal event of each job."""
    return {event["job"]["name"]: event for event in run.events if event["eventType"] != "START"}


def message(event: dict[str, Any]) -> str:
    """Return the error message of an event."""
    return str(event["run"]["facets"].get("errorMessage", {}).get("message", ""))


def failure(span: Span) -> str:
    """Return the message of a failed span."""
    assert Status.STATUS_CODE_ERROR == span.status.code
    return span.status.message


def test_jobs(run: Run) -> None:
    """Each node that dbt executes or skips has one start and one end; hooks and exposures have none."""
    states = defaultdict(list)
    for event in run.events:
        states[event["job"]["name"]].append(event["eventType"])
    outcomes = {"success": "COMPLETE", "pass": "COMPLETE", "skipped": "ABORT"}
    expected = {
        unique_id: ["START", outcomes.get(result["status"], "FAIL")]
        for unique_id, result in run.results.items()
        if unique_id.partition(".")[0] not in {"operation", "exposure"}
    }

    assert expected | {"dbt.pipeline": ["START", "FAIL"], runs.ALL: ["START", "FAIL"]} == states


@pytest.mark.parametrize("name", FAILING)
def test_failed_batch(run: Run, name: str) -> None:
    """A microbatch model of which one batch failed has failed, with the message of that batch."""
    unique_id = f"model.pipeline.{name}"
    event, span = ends(run)[unique_id], run.span(unique_id)
    cause = "no such thing" if FAILING[name][1] == COMPILATION else 'Referenced column "no_such_column" not found'

    assert "partial success" == run.results[unique_id]["status"]
    assert ("FAIL", []) == (event["eventType"], event["outputs"])
    assert cause in message(event)
    assert f"of main.{name}: 1 of 3 batches failed" in message(event)
    assert cause in failure(span)
    assert attributes(span)["error.type"] == (
        "Compilation Error" if FAILING[name][1] == COMPILATION else "Runtime Error"
    )


@pytest.mark.parametrize("name", HEALTHY)
def test_batches(run: Run, name: str) -> None:
    """A microbatch model has its own times, not those of a batch."""
    unique_id = f"model.pipeline.{name}"
    timing, span = run.results[unique_id]["timing"], run.span(unique_id)

    assert "COMPLETE" == ends(run)[unique_id]["eventType"]
    assert abs(runs.nanoseconds(timing[0]["started_at"]) - span.start_time_unix_nano) < 50_000_000
    assert abs(runs.nanoseconds(timing[-1]["completed_at"]) - span.end_time_unix_nano) < 50_000_000


def test_hook_spans(run: Run) -> None:
    """Each hook in run_results.json has a span below the dbt command's, with dbt's times and status."""
    hooks = {unique_id: result for unique_id, result in run.results.items() if unique_id.startswith("operation.")}
    command = run.span("dbt")

    assert ["success", "success", "error", "skipped"] == [result["status"] for result in hooks.values()]
    for unique_id, result in hooks.items():
        span = run.span(unique_id)
        assert command.span_id == span.parent_span_id
        assert result["status"] == attributes(span)["dbt.status"]
        assert {"db.collection.name", "dbt.materialized", "dagster.asset.key"}.isdisjoint(attributes(span))
        if timing := result["timing"]:
            assert abs(runs.nanoseconds(timing[0]["started_at"]) - span.start_time_unix_nano) < 50_000_000
            assert abs(runs.nanoseconds(timing[-1]["completed_at"]) - span.end_time_unix_nano) < 50_000_000


def test_failed_hook(run: Run) -> None:
    """A failed hook has an error span with its message, which stands in the end of the command and of the run."""
    hook = "operation.pipeline.pipeline-on-run-end-1"

    assert "no_such_table does not exist" in failure(run.span(hook))
    for job in ("dbt.pipeline", runs.ALL):
        assert "pipeline.on-run-end.1 failed, error:" in message(ends(run)[job])


@pytest.mark.parametrize(
    ("skipped", "cause"),
    [
        ("unit_tested", "unit_test.pipeline.unit_tested.doubles failed"),
        ("after_unit_tested", "model.pipeline.unit_tested was skipped"),
        ("after_batches", "model.pipeline.broken_batches_0 failed"),
    ],
)
def test_skipped(run: Run, skipped: str, cause: str) -> None:
    """A skipped model names what it was skipped for, its own unit test too."""
    assert f"dbt skipped this node: {cause}" == message(ends(run)[f"model.pipeline.{skipped}"])


def test_log(run: Run) -> None:
    """Nothing of this is a fault of ours."""
    assert "Traceback" not in json.dumps(run.lines)
