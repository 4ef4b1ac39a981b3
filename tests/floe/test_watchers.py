"""Watchers: a third one is one class and one line; one that is off does not exist."""

from __future__ import annotations

import fcntl
import logging
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from pipeline.floe import step_watch
from pipeline.floe.assets.catalog import StepAssets
from pipeline.floe.dbt.node_events import DbtEvent, NodeFinished
from pipeline.floe.delivery.counts import Counts
from pipeline.floe.delivery.limits import BUDGET_SECONDS
from pipeline.floe.faults import FaultGuard
from pipeline.floe.settings import Settings, settings
from pipeline.floe.step import Step
from pipeline.floe.watcher import DbtCommand, Ending, Record

from tests.faults.drive import context
from tests.lineage.test_faults import observe


class StatusWatcher:
    """Counts how nodes end, and sends nothing."""

    name = "statuses"
    wants_statements = False

    def __init__(self) -> None:
        self.statuses: Counter[str] = Counter()
        self.ending: Ending | None = None
        self.closed: Mapping[str, Counts] = {}

    @classmethod
    def open(cls, _: Step, __: Settings, ___: logging.Logger) -> StatusWatcher:
        opened.append(watcher := cls())
        return watcher

    def environment(self) -> Mapping[str, str]:
        return {"STATUSES": "counted"}

    def begin(self, assets: StepAssets) -> None:
        self.assets = assets

    def attach(self, command: DbtCommand) -> Record:
        self.command = command
        return self._record

    def finish(self, ending: Ending) -> None:
        self.ending = ending

    def close(self, _: float, closed: Mapping[str, Counts]) -> Counts:
        self.closed = dict(closed)
        return Counts(sent=self.statuses.total())

    def _record(self, event: DbtEvent) -> None:
        if isinstance(event, NodeFinished):
            self.statuses[event.status] += 1


opened: list[StatusWatcher] = []


def test_third_watcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One class and one line: it sees each event and the end, and has its tag beside the others."""
    opened.clear()
    monkeypatch.setattr(step_watch, "WATCHERS", (*step_watch.WATCHERS, StatusWatcher))

    observed = observe(tmp_path / "run")

    (watcher,) = opened
    ends = Counter(event["eventType"] for event in observed.events if event["job"]["name"].count(".") >= 2)
    assert watcher.statuses.total() == sum(ends.values()) - ends["START"]
    assert f"{watcher.statuses.total()} sent" == observed.tags["floe/statuses"]
    assert watcher.ending is not None
    assert {"lineage", "traces", "metrics"} == set(watcher.closed)


def test_broken_watcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal that cannot even start is named with its reason in the run's tag and its last log line."""
    monkeypatch.delenv("FLOE_RAISE")
    monkeypatch.setenv("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "many")

    observed = observe(tmp_path / "run")

    assert "0 sent (detail lost for 1 node)" == observed.tags["floe/traces"]
    assert "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT must be a non-negative integer but got many" in str(
        observed.log[-1].getMessage()
    )


def test_locked_tags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A process that hangs while it holds the lock on the tags does not delay others beyond the budget."""
    tags: dict[str, str] = {}
    monkeypatch.setenv("FLOE_STATE_DIR", str(tmp_path))
    own = replace(settings, openlineage_url="", otlp_endpoint="")
    watch = step_watch.StepWatch(context(tags), own, FaultGuard())
    with (tmp_path / "run_tags.lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        began = time.monotonic()
        watch._close()
        took = time.monotonic() - began

    assert took < BUDGET_SECONDS + 0.5
    assert {"floe/lineage": "off", "floe/traces": "off", "floe/metrics": "off"} == {
        name: value for name, value in tags.items() if name.startswith("floe/")
    }
    assert "Another process holds a lock" in caplog.text
