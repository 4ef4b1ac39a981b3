"""Tests of the step that runs dbt, and of its job's name at receivers."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.reconstruct import ReconstructableRepository
from pipeline.floe.dbt.command import start
from pipeline.floe.lineage.sources import run_context
from pipeline.floe.settings import settings
from pipeline.floe.step import Step, has_empty_selection, read_step

from tools.runs import IN_PROCESS

# Dagster deprecates for assets what it has for ops; `Context` is either.
pytestmark = pytest.mark.filterwarnings("ignore:AssetExecutionContext:DeprecationWarning")

names: list[tuple[str, str]] = []
empty: list[bool] = []


@dg.asset
def orders(context) -> None:  # type: ignore[no-untyped-def]  # Dagster takes no annotation that is text
    """Record the name of the run's job in Dagster and at receivers, and whether the run's selection is empty."""
    names.append((context.job_name, read_step(context).display_name))
    empty.append(has_empty_selection(context))


@dg.sensor(name="landed", target=dg.AssetSelection.all())
def sensor(_: dg.SensorEvaluationContext) -> Iterator[dg.RunRequest]:
    """Request a run."""
    yield dg.RunRequest()


DEFINITIONS = dg.Definitions(
    assets=[orders],
    jobs=[dg.define_asset_job("daily", [orders])],
    schedules=[dg.ScheduleDefinition(name="nightly", target=dg.AssetSelection.all(), cron_schedule="0 6 * * *")],
    sensors=[sensor],
)


def named(job_name: str) -> Step:
    """Return a step of a job."""
    return Step(run_id="r", job_name=job_name, key="a", run_started_at=datetime(2026, 11, 23, tzinfo=UTC))


REPOSITORY = DEFINITIONS.get_repository_def()


@pytest.mark.parametrize(
    ("job_name", "expected"),
    [
        (REPOSITORY.get_implicit_asset_job_names()[0], "pipeline.assets"),
        ("daily", "daily"),
        (REPOSITORY.get_schedule_def("nightly").job_name, "pipeline.nightly"),
        (REPOSITORY.get_sensor_def("landed").job_name, "pipeline.landed"),
    ],
)
def test_display_name(job_name: str, expected: str) -> None:
    """A job that Dagster made up gets a name that its owner knows; a job of the project keeps its own."""
    names.clear()
    REPOSITORY.get_job(job_name).execute_in_process()

    assert [(job_name, expected)] == names


def test_ephemeral_job() -> None:
    """Assets that a test or a script materializes are built without a job as well."""
    names.clear()
    empty.clear()
    dg.materialize([orders])

    assert "pipeline.assets" == names[0][1]
    assert [False] == empty


def test_lineage() -> None:
    """Lineage has the display name; the step keeps the job's name in Dagster."""
    step = named("__ASSET_JOB")

    assert ("__ASSET_JOB", "pipeline.assets") == (step.job_name, run_context(step, settings).run.name)


@pytest.mark.parametrize(
    ("job_name", "selection", "expected"),
    [("__ASSET_JOB", [], True), ("__ASSET_JOB", [dg.AssetKey("orders")], False), ("daily", [], False)],
)
def test_empty_selection(job_name: str, selection: list[dg.AssetKey], expected: bool) -> None:
    """`dg launch --assets` passes no asset on if none matches; a job of the project needs no selection."""
    empty.clear()
    repository = ReconstructableRepository.for_module(__name__, "DEFINITIONS")
    with dg.instance_for_test() as instance:
        dg.execute_job(repository.get_reconstructable_job(job_name), instance, IN_PROCESS, asset_selection=selection)

    assert [expected] == empty


def test_empty_selection_builds_nothing() -> None:
    """A run with an empty selection fails before dbt starts, with the command that lists what a selection matches."""
    run: Any = SimpleNamespace(job_name="__ASSET_JOB", asset_selection=None, asset_check_selection=None)
    context: Any = SimpleNamespace(run=run)
    dbt: Any = None  # would fail if it was used

    with pytest.raises(dg.Failure, match="dg list defs --assets"):
        start(dbt, ["build"], context, {}, before=None)
