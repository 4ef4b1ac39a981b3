"""The Dagster run above the command: when its own events are sent."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest
from dagster._core.execution.stats import StepEventStatus
from pipeline.floe import step
from pipeline.floe.lineage import setup as lineage_setup
from pipeline.floe.lineage.parents import JobRun
from pipeline.floe.redact import redact


def plan_step(key: str, *above: str, dbt: bool = True) -> Any:
    """Return what a run's plan says of a step, and of those above it."""
    tags = {"dagster_dbt/select": "fqn:*"} if dbt else {}
    return SimpleNamespace(key=key, tags=tags, inputs=[SimpleNamespace(upstream_step_keys=set(above))])


def context(*, steps: int = 1, attempt: int = 0, retries: int = 0, tags: dict[str, str] | None = None) -> Any:
    """Return what the modules read of a step's context."""
    keys = [f"step{i}" for i in range(steps)]
    plan = SimpleNamespace(step_keys_to_execute=keys, steps=[plan_step(key) for key in keys])
    policy = dg.RetryPolicy(max_retries=retries) if retries else None
    return SimpleNamespace(
        run=SimpleNamespace(execution_plan_snapshot_id="plan", tags=tags or {}),
        run_id="0192f0b5-0a2f-7f4d-9a5e-000000000001",
        job_name="daily",
        retry_number=attempt,
        has_partition_key=False,
        has_partition_key_range=False,
        instance=SimpleNamespace(get_execution_plan_snapshot=lambda _: plan),
        get_step_execution_context=lambda: SimpleNamespace(op_retry_policy=policy),
    )


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """Forget the runs of the test before."""
    lineage_setup._claimed.clear()
    yield
    lineage_setup._claimed.clear()


def test_one_step() -> None:
    """The run's events are those of its only step, and of the first command in it."""
    assert lineage_setup.claim_run(context())
    assert not lineage_setup.claim_run(context())


def test_many_steps() -> None:
    """Of a run with more steps no step knows the end: none sends the run's events."""
    assert not lineage_setup.claim_run(context(steps=2))


def test_retry() -> None:
    """An attempt that Dagster repeats does not end the run; the one after it may, in the same process too."""
    first, second = context(retries=1), context(retries=1, attempt=1)

    assert lineage_setup.claim_run(first)
    assert step.will_be_retried(first, dg.Failure("dbt"))
    assert lineage_setup.claim_run(second)
    assert not step.will_be_retried(second, dg.Failure("dbt"))


@pytest.mark.parametrize("error", [None, KeyboardInterrupt(), dg.Failure("no", allow_retries=False)])
def test_no_retry(error: BaseException | None) -> None:
    """What went well, was stopped, or says so itself is not repeated."""
    assert not step.will_be_retried(context(retries=3), error)


def test_schedule(monkeypatch: pytest.MonkeyPatch) -> None:
    """The nominal time of a scheduled run is its tick; of its tags, those leave that say why it runs."""
    for name in ("OPENLINEAGE_PARENT_ID", "OPENLINEAGE_CONTEXT"):
        monkeypatch.delenv(name, raising=False)
    tick = datetime(2026, 11, 23, 6, tzinfo=UTC).isoformat()
    tags = {".dagster/scheduled_execution_time": tick, "dagster/schedule_name": "daily", "password": "hunter2"}
    run = lineage_setup.dagster_run_of(context(tags=tags), "shop")

    assert JobRun("shop", "daily", "0192f0b5-0a2f-7f4d-9a5e-000000000001") == run.run
    assert (tick, None) == run.nominal
    assert {"dagster/schedule_name": "daily"} == run.tags


def test_partition() -> None:
    """The nominal time of a partition is its window."""
    window = dg.TimeWindow(datetime(2026, 11, 23, tzinfo=UTC), datetime(2026, 11, 24, tzinfo=UTC))
    partitioned = context()
    partitioned.has_partition_key = True
    partitioned.partition_time_window = window

    assert ("2026-11-23T00:00:00+00:00", "2026-11-24T00:00:00+00:00") == (
        lineage_setup.dagster_run_of(partitioned, "shop").nominal
    )


def test_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that an engine repeats in its message does not leave."""
    monkeypatch.setenv("OPENLINEAGE_API_KEY", "hunter2")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "")

    assert "no entry for [hidden]" == redact("no entry for hunter2")


def stats(**ended: bool) -> Any:
    """Return the context of `step0`, of three steps, and the event log's word on those named, failed or not."""
    made = context(steps=3)
    told = [
        SimpleNamespace(
            step_key=key, end_time=1.0, status=StepEventStatus.FAILURE if failed else StepEventStatus.SUCCESS
        )
        for key, failed in ended.items()
    ]
    made.instance.get_run_step_stats = lambda _: told
    made.get_step_execution_context = lambda: SimpleNamespace(step=SimpleNamespace(key="step0"))
    return made


def test_last_of_several() -> None:
    """A run of several steps is ended by the step that has no other with dbt left."""
    assert not step.is_last_step(stats(step1=False))
    assert step.is_last_step(stats(step1=False, step2=False))


def test_last_with_dbt() -> None:
    """A step without dbt is not waited for, nor one that a failure has made impossible."""
    one = stats(step1=True)
    plan = one.instance.get_execution_plan_snapshot("plan")

    plan.steps[2] = plan_step("step2", dbt=False)
    assert step.is_last_step(one)
    plan.steps[2] = plan_step("step2", "step1")
    assert step.is_last_step(one)
    plan.steps[2] = plan_step("step2", "step0")
    assert not step.is_last_step(one)


def test_failed_elsewhere() -> None:
    """A run in which another step has failed has failed."""
    assert step.has_failed_step(stats(step1=True, step2=False))
    assert not step.has_failed_step(stats(step1=False, step2=False))
