"""Tests of the daemon's sensor, with a Dagster instance in memory, real journals and a real receiver."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import dagster as dg
import pytest
from dagster._core.events import DagsterEvent
from openlineage.client.event_v2 import Job, Run, RunEvent, RunState
from opentelemetry.proto.trace.v1.trace_pb2 import Status
from pipeline.floe.daemon import delivery, lost_runs, sensor
from pipeline.floe.delivery.journal import journals
from pipeline.floe.delivery.limits import STALE_SECONDS
from pipeline.floe.delivery.run_tags import ENDED_TAG
from pipeline.floe.settings import Settings, settings

from tests.floe.test_journal import dead
from tests.floe.test_liveness import age, host
from tools.receiver import Receiver, receiver

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


@dg.op(tags={"dagster_dbt/select": "fqn:*"})
def dbt_models() -> None:
    """Stand for a step with dbt."""


@dg.job
def everything() -> None:
    """Have one step with dbt."""
    dbt_models()


@pytest.fixture
def server() -> Iterator[Receiver]:
    """Return a healthy receiver."""
    with receiver() as endpoint:
        yield endpoint


@pytest.fixture
def own(server: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Return settings that send to the receiver; lost runs need no grace."""
    monkeypatch.setenv("FLOE_STATE_DIR", str(tmp_path))
    monkeypatch.setattr(delivery, "GRACE", timedelta(0))
    return replace(settings, openlineage_url=server.url, otlp_endpoint=server.url)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """Return an instance in memory."""
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def started(instance: dg.DagsterInstance, tags: dict[str, str] | None = None) -> dg.DagsterRun:
    """Return a run whose step has started."""
    run = instance.create_run_for_job(everything, tags=tags, status=dg.DagsterRunStatus.STARTED)
    event = DagsterEvent(event_type_value="STEP_START", job_name=run.job_name, step_key="dbt_models")
    instance.report_dagster_event(event, run.run_id)
    return run


def start_of(run: dg.DagsterRun, state: RunState = RunState.START) -> RunEvent:
    """Return a run event of a Dagster run."""
    at = datetime.now(UTC).isoformat()
    return RunEvent(eventTime=at, eventType=state, run=Run(run.run_id), job=Job("shop", "everything"))


def states(server: Receiver) -> list[str]:
    """Return the states of the received events, in order."""
    return [event["eventType"] for event in server.events]


def evaluate(instance: dg.DagsterInstance, own: Settings) -> str:
    """Evaluate the sensor once; return its summary."""
    summary: str
    summary, _ = delivery.Sensor(instance, own).run(EPOCH)
    return summary


def test_lost(instance: dg.DagsterInstance, own: Settings, server: Receiver) -> None:
    """A run of which nothing is on disk gets one end in lineage and trace, with Dagster's reason."""
    run = started(instance)
    instance.report_run_failed(run, "The pod was lost.")

    assert "ended 1 lost run" in evaluate(instance, own)
    assert "nothing was waiting" == evaluate(instance, own)
    assert ["START", "FAIL"] == states(server)
    assert {run.run_id} == {event["run"]["runId"] for event in server.events}
    assert "The pod was lost." in server.events[1]["run"]["facets"]["errorMessage"]["message"]
    assert {"run everything", "step dbt_models"} == {span.name for span in server.spans}
    assert {Status.STATUS_CODE_ERROR} == {span.status.code for span in server.spans}
    assert {run.run_id.replace("-", "")} == {span.trace_id.hex() for span in server.spans}


def test_canceled(instance: dg.DagsterInstance, own: Settings, server: Receiver) -> None:
    """A run that was canceled is aborted."""
    run = started(instance)
    instance.report_run_canceled(run)
    evaluate(instance, own)

    assert ["START", "ABORT"] == states(server)


def test_goes_on(instance: dg.DagsterInstance, own: Settings, server: Receiver, tmp_path: Path) -> None:
    """While Dagster has not given a run up, its start waits for an end; afterwards it gets one."""
    run = started(instance)
    dead(tmp_path / "lineage", start_of(run), run=run.run_id)
    for _ in range(2):
        evaluate(instance, own)
    assert (["START"], 1) == (states(server), len(journals(tmp_path / "lineage")))

    instance.report_run_failed(run, "The pod was lost.")
    for _ in range(2):
        evaluate(instance, own)
    assert ["START", "ABORT"] == states(server)
    assert [] == journals(tmp_path / "lineage")
    assert 1 == [span.name for span in server.spans].count("run everything")


def test_stands_still(
    instance: dg.DagsterInstance, own: Settings, server: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While Dagster has not given a run of a silent host up, nothing of it is touched; afterwards all of it ends."""
    run = started(instance)
    node = start_of(run)
    node.run = Run(str(uuid4()))
    with host(monkeypatch, "a"):
        dead(tmp_path / "lineage", start_of(run), node, run=run.run_id)
    (file,) = journals(tmp_path / "lineage")
    age(file, STALE_SECONDS + 10)
    evaluate(instance, own)
    assert ([], [file]) == (states(server), journals(tmp_path / "lineage"))

    instance.report_run_failed(run, "The pod was lost.")
    for _ in range(2):
        evaluate(instance, own)
    assert ["START", "START", "ABORT", "ABORT"] == sorted(states(server), reverse=True)
    assert [] == journals(tmp_path / "lineage")


def test_succeeded(instance: dg.DagsterInstance, own: Settings, server: Receiver, tmp_path: Path) -> None:
    """A run that another attempt has ended gets no second end from the journal of the first."""
    run = started(instance)
    dead(tmp_path / "lineage", start_of(run), run=run.run_id)
    instance.report_dagster_event(DagsterEvent(event_type_value="PIPELINE_SUCCESS", job_name=run.job_name), run.run_id)
    evaluate(instance, own)

    assert (["START"], []) == (states(server), journals(tmp_path / "lineage"))


def test_said(instance: dg.DagsterInstance, own: Settings, server: Receiver, tmp_path: Path) -> None:
    """A run whose process was killed after it had written the end, but before Dagster knew, gets no second one."""
    run = started(instance)
    dead(tmp_path / "lineage", start_of(run), start_of(run, RunState.COMPLETE), run=run.run_id)
    instance.report_run_failed(run, "The pod was lost.")
    for _ in range(2):
        evaluate(instance, own)

    assert ["START", "COMPLETE"] == states(server)


@pytest.mark.parametrize(("is_own", "count"), [(True, 0), (False, 2)])
def test_tag(instance: dg.DagsterInstance, own: Settings, server: Receiver, *, is_own: bool, count: int) -> None:
    """A tag says that the end was sent, unless Dagster has copied it from the run that this one repeats."""
    run = started(instance, {ENDED_TAG: "another run"})
    if is_own:
        instance.add_run_tags(run.run_id, {ENDED_TAG: run.run_id})
    instance.report_run_failed(run, "The pod was lost.")
    evaluate(instance, own)

    assert count == len(server.events)


def test_alive(instance: dg.DagsterInstance, own: Settings, server: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that Dagster has just given up may still report its end itself."""
    monkeypatch.setattr(delivery, "GRACE", timedelta(seconds=90))
    instance.report_run_failed(started(instance), "The pod was lost.")
    summary, is_done = delivery.Sensor(instance, own).run(EPOCH)

    assert ("1 may still end otherwise", False) == (summary, is_done)
    assert [] == server.events


def test_without_dbt(instance: dg.DagsterInstance, own: Settings, server: Receiver) -> None:
    """A run that failed before its step with dbt started has nothing to end."""
    run = instance.create_run_for_job(everything, status=dg.DagsterRunStatus.STARTED)
    instance.report_run_failed(run, "The pod was lost.")

    assert "nothing was waiting" == evaluate(instance, own)
    assert [] == server.events


def test_off(instance: dg.DagsterInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If nothing is configured, the sensor is off, and reads nothing if it is switched on."""
    monkeypatch.setenv("FLOE_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setattr(delivery, "lost_runs", None)
    result = sensor.unsent_sensor.evaluate_tick(dg.build_sensor_context(instance))

    assert dg.DefaultSensorStatus.STOPPED is sensor.unsent_sensor.default_status
    assert "Neither lineage nor traces are on." == result.skip_message
    assert [] == list(tmp_path.iterdir())


def test_error(instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """An error is logged, and fails neither the evaluation nor the daemon."""

    def fail(*_: Any) -> None:
        raise ValueError("planted")

    monkeypatch.setattr(delivery, "Sensor", fail)
    result = sensor.unsent_sensor.evaluate_tick(dg.build_sensor_context(instance))

    assert "planted" in str(result.skip_message)
    assert [] == result.run_requests
    assert "planted" in caplog.text


@pytest.mark.parametrize(("location", "is_own"), [("shop", True), ("other", False), (None, True)])
def test_other_location(
    instance: dg.DagsterInstance, own: Settings, server: Receiver, location: str | None, *, is_own: bool
) -> None:
    """A run of another code location is left to that one; a run of `dg launch` names none."""
    instance.report_run_failed(started(instance), "The pod was lost.")
    with pytest.MonkeyPatch.context() as patch:
        origin = SimpleNamespace(location_name=location) if location else None
        patch.setattr(dg.DagsterRun, "remote_job_origin", property(lambda _: origin))
        summary, is_done = delivery.Sensor(instance, own, "shop").run(EPOCH)

    assert (is_own, True) == ("ended 1 lost run" in summary, is_done)
    assert (["START", "FAIL"] if is_own else []) == states(server)


def test_many(instance: dg.DagsterInstance, own: Settings, server: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """All lost runs are ended, however many an outage has left."""
    monkeypatch.setattr(lost_runs, "PAGE", 2)
    runs = [started(instance) for _ in range(5)]
    for run in runs:
        instance.report_run_failed(run, "The pod was lost.")

    assert "ended 5 lost runs" in evaluate(instance, own)
    assert {run.run_id for run in runs} == {event["run"]["runId"] for event in server.events}
    assert "nothing was waiting" == evaluate(instance, own)


@pytest.mark.parametrize("wrong", [{"openlineage_url": "no URL"}, {"otlp_protocol": "udp"}])
def test_wrong_setting(instance: dg.DagsterInstance, own: Settings, server: Receiver, wrong: dict[str, Any]) -> None:
    """A lost run is ended once its endpoint's setting is right again, with one start, end and trace."""
    run = started(instance)
    instance.report_run_failed(run, "The pod was lost.")

    summary, is_done = delivery.Sensor(instance, replace(own, **wrong)).run(EPOCH)
    assert ("1 may still end otherwise" in summary, is_done) == (True, False)
    assert "ended 1 lost run" in evaluate(instance, own)
    assert ["START", "FAIL"] == states(server)
    assert ["run everything", "step dbt_models"] == sorted(span.name for span in server.spans)


def test_lineage_off(instance: dg.DagsterInstance, own: Settings, server: Receiver, tmp_path: Path) -> None:
    """A journal of the time when lineage was on does not keep a lost run from ending in its trace."""
    run = started(instance)
    dead(tmp_path / "lineage", start_of(run), run=run.run_id)
    instance.report_run_failed(run, "The pod was lost.")

    assert "ended 1 lost run" in evaluate(instance, replace(own, openlineage_url=""))
    assert [] == server.events
    assert ["run everything", "step dbt_models"] == sorted(span.name for span in server.spans)
