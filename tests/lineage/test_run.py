"""Tests of the Dagster run above the dbt commands: its facets, and which step reports its end."""

from __future__ import annotations

import logging
import multiprocessing
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

import dagster as dg
import pytest
from pipeline.floe.dbt.node_events import Outcome
from pipeline.floe.delivery.run_tags import add_counts, total
from pipeline.floe.lineage import sources
from pipeline.floe.lineage.parents import JobRun
from pipeline.floe.redact import redact
from pipeline.floe.run_outcome import RunEnd, StepEnd, run_end, step_end
from pipeline.floe.settings import settings
from pipeline.floe.step import Step, read_step
from pipeline.floe.step_watch import ENDS

RUN_ID = "0192f0b5-0a2f-7f4d-9a5e-000000000001"
STEP = Step(run_id=RUN_ID, job_name="daily", key="a", run_started_at=datetime(2026, 11, 23, tzinfo=UTC))
CERTAIN = RunEnd(outcome=Outcome.SUCCESS, message=None, is_certain=True)


@pytest.fixture(autouse=True)
def no_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run below nothing."""
    for name in ("OPENLINEAGE_PARENT_ID", "OPENLINEAGE_CONTEXT"):
        monkeypatch.delenv(name, raising=False)


def test_schedule() -> None:
    """The nominal time of a scheduled run is its tick; of its tags, those leave that say why it runs."""
    tick = datetime(2026, 11, 23, 6, tzinfo=UTC).isoformat()
    tags = {".dagster/scheduled_execution_time": tick, "dagster/schedule_name": "daily", "password": "hunter2"}
    run = sources.run_context(replace(STEP, tags=tags), replace(settings, namespace="shop"))

    assert JobRun("shop", "daily", RUN_ID) == run.run
    assert (tick, None) == run.nominal
    assert {"dagster/schedule_name": "daily"} == run.tags


def test_partition() -> None:
    """The nominal time of a partition is its window."""
    window = datetime(2026, 11, 23, tzinfo=UTC), datetime(2026, 11, 24, tzinfo=UTC)

    assert ("2026-11-23T00:00:00+00:00", "2026-11-24T00:00:00+00:00") == (
        sources.run_context(replace(STEP, window=window), settings).nominal
    )


def test_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that an engine repeats in its message does not leave."""
    monkeypatch.setenv("OPENLINEAGE_API_KEY", "hunter2")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "")

    assert "no entry for [hidden]" == redact("no entry for hunter2")


class Asking(logging.Handler):
    """Asks, once Dagster has recorded the end of a step, how the run has ended."""

    def __init__(self, context: dg.OpExecutionContext, answers: dict[str, RunEnd | None]) -> None:
        super().__init__()
        self._context = context
        self._answers = answers

    def emit(self, record: logging.LogRecord) -> None:
        """Take Dagster's log records."""
        event = getattr(record, "dagster_event", None)
        if event is not None and event.event_type in ENDS:
            step = read_step(self._context)
            self._answers[step.key] = run_end(self._context, step, step_end(event), all_steps=False)


@dg.op(out=dg.Out(dg.Nothing))
def root() -> None:
    """Start."""


def answers(
    dbt: Mapping[str, bool], *, failing: Sequence[str] = (), above: Mapping[str, str] = MappingProxyType({})
) -> dict[str, RunEnd | None]:
    """Run steps for real, one after the other; return what those with dbt are told of the run's end.

    Args:
        dbt: Steps in order, and whether dagster-dbt has made them.
        failing: Those that fail.
        above: Step -> the step that it waits for.
    """
    told: dict[str, RunEnd | None] = {}

    def op(name: str) -> dg.OpDefinition:
        tags = {"dagster_dbt/select": "fqn:*"} if dbt[name] else {}

        @dg.op(name=name, tags=tags, ins={"put": dg.In(dg.Nothing)}, out=dg.Out(dg.Nothing))
        def run(context) -> None:  # type: ignore[no-untyped-def]  # Dagster takes no annotation that is text
            if dbt[name]:
                context.log.addHandler(Asking(context, told))
            if name in failing:
                raise ValueError(f"{name} is broken")

        return run

    ops = {name: op(name) for name in dbt}

    @dg.job
    def job() -> None:
        outputs: dict[str, Any] = {"root": root()}
        for name in dbt:
            outputs[name] = ops[name](outputs[above.get(name, "root")])

    job.execute_in_process(raise_on_error=False)
    return told


def test_last_of_several() -> None:
    """A run of several steps is ended by the one whose end is the last in its event log."""
    assert {"a": None, "b": None, "c": CERTAIN} == answers({"a": True, "b": True, "c": True})


def test_only_step() -> None:
    """The only step of a run ends it, without a look at the log, unless Dagster tries it again."""
    retried = StepEnd(outcome=Outcome.FAIL, message="broken", is_retried=True)
    with dg.DagsterInstance.ephemeral() as instance:
        context: Any = SimpleNamespace(instance=instance)

        assert RunEnd(outcome=Outcome.FAIL, message="broken", is_certain=True) == run_end(
            context, STEP, StepEnd(outcome=Outcome.FAIL, message="broken"), all_steps=False
        )
        assert run_end(context, STEP, retried, all_steps=False) is None


def test_last_with_dbt() -> None:
    """The last step with dbt knows the end for certain only if no step without dbt is left."""
    assert {"a": RunEnd(outcome=Outcome.SUCCESS, message=None, is_certain=False)} == answers({"a": True, "b": False})
    assert {"b": CERTAIN} == answers({"a": False, "b": True})


def test_never_run() -> None:
    """What a failure has made impossible is not waited for."""
    assert {
        "a": RunEnd(outcome=Outcome.FAIL, message="a is broken", is_certain=True, error_type="ValueError")
    } == answers({"a": True, "b": True, "c": False}, failing=["a"], above={"b": "a", "c": "b"})


def test_failed_elsewhere() -> None:
    """A run in which another step has failed has failed, with its reason."""
    failed = RunEnd(outcome=Outcome.FAIL, message="a is broken", is_certain=True, error_type="ValueError")
    assert {"a": None, "b": failed} == answers({"a": True, "b": True}, failing=["a"])
    assert {"b": failed} == answers({"a": False, "b": True}, failing=["a"])


@pytest.mark.parametrize(
    ("before", "text", "expected"),
    [
        (None, "12 sent", "12 sent"),
        ("12 sent, 1 dropped", "3 sent, 2 spooled", "15 sent, 1 dropped, 2 spooled"),
        ("0 sent", "0 sent", "0 sent"),
        ("off", "3 sent", "3 sent"),
        ("3 sent", "off", "3 sent"),
        ("off", "off", "off"),
    ],
)
def test_total(before: str | None, text: str, expected: str) -> None:
    """A run's tag is the sum over its steps."""
    assert expected == total(before, text)


def _add(instance: Any, folder: Path) -> None:
    context: Any = SimpleNamespace(instance=dg.DagsterInstance.from_ref(instance), run_id=RUN_ID)
    for _ in range(20):
        assert add_counts(context, {"floe/lineage": "1 sent"}, folder, time.monotonic() + 60)


def test_tags_of_several_processes(tmp_path: Path) -> None:
    """Steps that end at the same moment do not overwrite each other's counts."""
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        dagster_run = dg.DagsterRun(job_name="daily", run_id=RUN_ID)
        instance.add_run(dagster_run)
        spawn = multiprocessing.get_context("spawn")
        processes = [spawn.Process(target=_add, args=(instance.get_ref(), tmp_path / "state")) for _ in range(2)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        run = instance.get_run_by_id(RUN_ID)

    assert run is not None
    assert {"floe/lineage": "40 sent"}.items() <= run.tags.items()
