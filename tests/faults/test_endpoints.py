"""Tests of each endpoint fault with ten nodes: the run is unharmed, nothing is lost, and there is one warning.

`nox -s faults` measures the same with a thousand nodes too.
"""

from __future__ import annotations

import os
import re
import time
from dataclasses import replace
from pathlib import Path

import pytest
from pipeline.floe.delivery.limits import BUDGET_SECONDS
from pipeline.floe.lineage.endpoint import open_lineage
from pipeline.floe.observer import Observer
from pipeline.floe.tracing.endpoint import open_spans

from tests.faults import drive
from tests.faults.drive import (
    CASES,
    CHANNELS,
    Case,
    context,
    environment,
    heal,
    made_project,
    quiet,
    run,
    settings,
    step,
    warned,
)
from tests.faults.server import Fault, faulty
from tools.engines.certificates import write_certificate

NODES = 10
# Over OTLP most faults are alike: these are enough here.
OTLP = {
    "refuses",
    "hangs",
    "413 for large ones",
    "500",
    "fails TLS",
    "redirects, 302",
    "endless body",
    "slow body",
    "one 503 at close",
    "refuses, and the volume fills up",
}
TRIED = [
    (channel, case)
    for channel in CHANNELS
    for case in CASES
    if channel in case.channels and (channel == "lineage" or case.name in OTLP)
]


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return an untrusted certificate and its key."""
    return write_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the target folder of a simulated dbt project."""
    return made_project(tmp_path_factory.mktemp("project") / "target", NODES)


@pytest.mark.parametrize(("channel", "case"), TRIED, ids=[f"{channel}-{case.name}" for channel, case in TRIED])
def test_fault(channel: str, case: Case, target: Path, tls: tuple[Path, Path], tmp_path: Path) -> None:
    """The run continues, one warning gives the reason, and everything arrives in the end."""
    if case.full and os.geteuid() != 0:
        pytest.skip("only root mounts a disk")
    ran = run(channel, case, target, NODES, tmp_path, tls, recover=True)

    # A start and an end of each node, of the command and of the run; a span of each, and of the step.
    expected = 2 * NODES + 4 if channel == "lineage" else NODES + 3
    ends_made_up = sum(state == "ABORT" for _, state in ran.arrived)  # for those that had no room on the disk
    assert expected == len(ran.arrived) + ran.dropped - ends_made_up
    assert 0 == ran.disordered
    told = ran.tags["floe/lineage" if channel == "lineage" else "floe/traces"]
    if "spooled" not in told and "dropped" not in told and not case.full:  # well again before the run was over
        assert case.returns or case.once or case.fault in {Fault.ENDLESS_BODY, Fault.SLOW_BODY} or case.larger_than
        assert [] == ran.warnings
        return
    (warning,) = ran.warnings
    assert told in warning
    assert "floe doctor" in warning
    assert "ConnectionPool" not in warning  # the libraries' chain of errors
    if case.name == "refuses":
        assert re.search(r"\(\w+: http://127\.0\.0\.1:\d+[\w/]*: nothing is listening there: start", warning), warning


@pytest.mark.parametrize("channel", CHANNELS)
def test_hang(channel: str, target: Path, tmp_path: Path) -> None:
    """An endpoint that hangs costs a run of ten nodes at most the budget, however many items are waiting."""
    with faulty(grpc=channel == "OTLP gRPC") as server:
        healthy, _, _ = step(channel, server.url, target, NODES, tmp_path, {})
        server.go_wrong(Fault.HANG)
        hanging, _, _ = step(channel, server.url, target, NODES, tmp_path, {})

    assert hanging - healthy < BUDGET_SECONDS + 0.5


def test_all_dead(target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If lineage, traces and metrics all hang, they cost one budget and one warning together."""
    with faulty() as server:
        server.go_wrong(Fault.HANG)
        everything = replace(settings("OTLP HTTP", server.url), openlineage_url=server.url)
        monkeypatch.setattr(drive, "settings", lambda *_: everything)
        seconds, warnings, tags = step("", "", target, NODES, tmp_path, {})

    assert seconds < BUDGET_SECONDS + 2  # the second half for the run itself
    assert 1 == len(warnings)
    assert "24 spooled" == tags["floe/lineage"]
    assert tags["floe/traces"].startswith("13 spooled")


def test_healthy(target: Path, tmp_path: Path) -> None:
    """A healthy run logs no warning and leaves nothing unsent."""
    with faulty() as server:
        _, warnings, tags = step("lineage", server.url, target, NODES, tmp_path, {})

    assert ([], {"floe/lineage": "24 sent", "floe/traces": "off", "floe/metrics": "off"}) == (warnings, tags)
    assert ["last.ndjson"] == [file.name for file in tmp_path.rglob("*.ndjson")]


@pytest.mark.parametrize("channel", ["OTLP HTTP", "OTLP gRPC"])
def test_no_metrics(channel: str, target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Metrics that are not accepted are reported as metrics, and accepted spans are reported as sent."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://127.0.0.1:9/v1/metrics")
    with faulty(grpc=channel == "OTLP gRPC") as server:
        _, (warning,), tags = step(channel, server.url, target, NODES, tmp_path, {})

    assert {"floe/lineage": "off", "floe/traces": "13 sent", "floe/metrics": "1 dropped"} == tags
    assert warning.startswith("lineage: off; traces: 13 sent; metrics: 1 dropped (metrics: ")


def test_dbt_never_started(tmp_path: Path) -> None:
    """A run whose dbt could not be started is reported: its start, and its end with the reason."""
    tags: dict[str, str] = {}
    with faulty() as server, environment(tmp_path), warned(), quiet():
        observer = Observer(context(tags), settings("lineage", server.url))
        observer.environment()
        observer.finish(FileNotFoundError("no program dbt"))

    assert ["START", "FAIL"] == [event["eventType"] for event in server.events]
    assert {"daily"} == {event["job"]["name"] for event in server.events}
    assert "no program dbt" == server.events[1]["run"]["facets"]["errorMessage"]["message"]
    assert "2 sent" == tags["floe/lineage"]


def test_two_runs(target: Path, tmp_path: Path) -> None:
    """A second run sends the unsent items of the first one as well as its own."""
    with faulty() as server:
        server.go_wrong(status=500)
        step("lineage", server.url, target, NODES, tmp_path, {})
        server.go_wrong()
        _, _, tags = step("lineage", server.url, target, NODES, tmp_path, {})

    assert "24 sent, 24 replayed" == tags["floe/lineage"]


@pytest.mark.parametrize("channel", CHANNELS)
def test_sent_in_part(channel: str, target: Path, tmp_path: Path) -> None:
    """After an interrupted replay, the next one sends the rest, and nothing twice."""
    with faulty(grpc=channel == "OTLP gRPC") as server:
        server.go_wrong(status=500)
        step(channel, server.url, target, NODES, tmp_path, {})
        server.go_wrong(delay=0.1)
        with environment(tmp_path), warned():
            told = settings(channel, server.url)
            box = open_lineage(told, "another") if channel == "lineage" else open_spans(told)
            assert box is not None
            counts = box.close(time.monotonic() + 0.55)
            assert 0 < counts.replayed < NODES
        heal(channel, server, tmp_path)

        sent = [span.span_id.hex() for span in server.spans]
        sent += [event["run"]["runId"] + event["eventType"] for event in server.events]
    assert len(set(sent)) <= len(sent) <= len(set(sent)) + 1  # the one that was on its way
    assert (2 * NODES + 4 if channel == "lineage" else NODES + 3) == len(set(sent))
