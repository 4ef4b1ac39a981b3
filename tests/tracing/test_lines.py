"""Tests of the JSON log of a real run."""

from __future__ import annotations

import pytest

from tools.runs import Run

pytestmark = pytest.mark.xdist_group("tracing")


def test_all_lines(run: Run) -> None:
    """Each JSON line of the run has the ids of its trace and run."""
    lines = [line for line in run.lines if "dbt parse" not in line["event"]]  # of the code location, before the run
    assert len(lines) > 100
    assert {(run.trace_id, run.run_id)} == {(line["trace_id"], line["run_id"]) for line in lines}


def test_only_json(run: Run) -> None:
    """Each line of the log is JSON, from the first one of a step's process on; dbt's output is only in records."""
    plain = [line for line in run.output.splitlines() if not line.startswith(("{", "RUN ", "TAGS "))]
    assert [] == plain
    assert "\x1b" not in "".join(line["event"] for line in run.lines)


def test_node_lines(run: Run) -> None:
    """A node's line has the node, its asset and span, and dbt's event, code and level."""
    (line,) = (
        line
        for line in run.lines
        if line.get("node") == "model.pipeline.broken" and line["dbt_event"] == "LogModelResult"
    )

    assert {
        "asset": "broken",
        "dbt_code": "Q012",
        "level": "error",
        "logger": "dbt",
        "span_id": run.span("model.pipeline.broken").span_id.hex(),
        "step_key": "dbt_models",
    }.items() <= line.items()


def test_step_lines(run: Run) -> None:
    """Other lines of the step have the id of the step's span."""
    step = run.span("step dbt_models").span_id.hex()

    assert [step] == [line["span_id"] for line in run.lines if line["event"].startswith("lineage: ")]


def test_milestones(run: Run) -> None:
    """The log has the start and end of the run, and its failure as structured data."""
    events = [line["event"] for line in run.lines]
    (failure,) = (line for line in run.lines if line["event"].startswith("Execution of run for"))

    assert any(event.startswith("Started execution of run") for event in events)
    assert "DagsterDbtCliRuntimeError" in {error["exc_type"] for error in failure["exception"]}
