"""State that several hosts share: what a living process owns is left alone, and a lost run gets one end."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.events import DagsterEvent

from .endpoint import Endpoint, serve
from .package import Journal, daemon, journals, liveness, locks, settings

SILENT_SECONDS = 60  # after which docs/lineage.md lets another host take over
ANOTHER_HOST = "0" * 12


@dg.op(tags={"dagster_dbt/select": "fqn:*"})
def dbt_models() -> None:
    """Stand for a step with dbt."""


@dg.job
def daily() -> None:
    """Have one step with dbt."""
    dbt_models()


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """Return an instance of Dagster in memory."""
    with dg.DagsterInstance.ephemeral() as made:
        yield made


@contextmanager
def another_host() -> Iterator[None]:
    """Be another host inside this block."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(liveness, "host_id", lambda: ANOTHER_HOST)
        yield


def silence(file: Path, seconds: float) -> None:
    """Set back the time at which a file was touched last."""
    at = time.time() - seconds
    os.utime(file, (at, at))


def start_on_another_host(folder: Path, run_id: str) -> Path:
    """Write the start of a run as another host does, whose process is gone then; return the journal."""
    start = {
        "eventType": "START",
        "eventTime": datetime.now(UTC).isoformat(),
        "producer": "https://example.com",
        "run": {"runId": run_id},
        "job": {"namespace": "shop", "name": "daily"},
    }
    with another_host():
        journal = Journal.create(folder, run_id)
        journal.append(json.dumps(start))
        journal.close()
    return journal.file


def started(instance: dg.DagsterInstance) -> dg.DagsterRun:
    """Return a run of Dagster whose step has started."""
    run = instance.create_run_for_job(daily, status=dg.DagsterRunStatus.STARTED)
    event = DagsterEvent(event_type_value="STEP_START", job_name=run.job_name, step_key="dbt_models")
    instance.report_dagster_event(event, run.run_id)
    return run


def evaluate(instance: dg.DagsterInstance, endpoint: Endpoint) -> list[str]:
    """Evaluate the daemon's sensor; return the states that the endpoint has taken since it was started."""
    own = replace(settings, openlineage_url=endpoint.url, otlp_endpoint="")
    daemon.Sensor(instance, own).run(datetime(2026, 1, 1, tzinfo=UTC))
    return [event["eventType"] for event in endpoint.events]


def test_journal(tmp_path: Path) -> None:
    """The journal of another host can be taken only after that host was silent for a minute."""
    file = start_on_another_host(tmp_path, "a-run")
    silence(file, SILENT_SECONDS - 20)
    assert Journal.claim(file) is None

    silence(file, SILENT_SECONDS + 20)
    journal = Journal.claim(file)
    assert journal is not None
    journal.close()


def test_lock(tmp_path: Path) -> None:
    """The lock of a folder that another host holds is respected until that host was silent for a minute."""
    lease = tmp_path / locks.LEASE
    lease.write_text(f"{ANOTHER_HOST}01234567")
    with locks.folder_lock(tmp_path, time.monotonic() + 0.1) as is_held:
        assert not is_held

    silence(lease, SILENT_SECONDS + 20)
    with locks.folder_lock(tmp_path) as is_held:
        assert is_held


def test_silent_host(instance: dg.DagsterInstance, state_folder: Path) -> None:
    """A silent host is not lost while its run goes on in Dagster, which is asked before its run is ended."""
    run = started(instance)
    file = start_on_another_host(state_folder / "lineage", run.run_id)
    silence(file, SILENT_SECONDS + 20)
    with serve() as endpoint:
        assert evaluate(instance, endpoint) == []
        assert journals(state_folder / "lineage") == [file]

        instance.report_run_failed(run, "The pod was lost.")
        assert evaluate(instance, endpoint) == ["START", "ABORT"]
    assert journals(state_folder / "lineage") == []


def test_lost_run(instance: dg.DagsterInstance, state_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that Dagster has given up gets an end, once, and not before its process had time to report one."""
    run = started(instance)
    instance.report_run_failed(run, "The pod was lost.")
    with serve() as endpoint:
        assert evaluate(instance, endpoint) == []

        monkeypatch.setattr(daemon, "GRACE", timedelta(0))
        for _ in range(2):
            assert evaluate(instance, endpoint) == ["START", "FAIL"]
    assert [event["run"]["runId"] for event in endpoint.events] == [run.run_id] * 2
    assert journals(state_folder / "lineage") == []
