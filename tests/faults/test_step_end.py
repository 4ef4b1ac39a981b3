"""Tests of a process that ends before Dagster reports the end of its step; dbt's events are simulated."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import dagster as dg
import pytest

from benchmarks import emitter
from tests.faults.drive import context, environment, invocation, made_project, settings
from tools.receiver import receiver


def run_step(url: str, target: Path, state: Path) -> None:
    """Run a step whose command ends but whose end Dagster never reports."""
    from pipeline.floe.observer import Observer

    made = context({})
    made.log = dg.DagsterLogManager.create(loggers=[])
    with environment(state):
        observer = Observer(made, settings("OTLP HTTP", url))
        observer.attach(invocation(target))
        for raw in emitter.events(2):
            observer.handle(raw)
        observer.finish(None)


@pytest.mark.parametrize("start_method", ["spawn", "forkserver", "fork"])
def test_no_end(tmp_path: Path, start_method: str) -> None:
    """The collected items are sent when the process ends, without an end of the run."""
    target = made_project(tmp_path / "target", 4)
    with receiver() as endpoint:
        process = multiprocessing.get_context(start_method).Process(  # type: ignore[attr-defined]
            target=run_step, args=(endpoint.url, target, tmp_path / "state")
        )
        process.start()
        process.join(60)

    names = [span.name for span in endpoint.spans]
    assert {"dbt", "step dbt"} < set(names)
    assert "run daily" not in names
    (step,) = (span for span in endpoint.spans if span.name == "step dbt")
    assert "The process ended before Dagster reported the end of the step." == step.status.message
