"""Delivery to endpoints that are dead, hang or redirect: the run goes on, and nothing is lost or counted falsely."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from .endpoint import dead_url, serve
from .package import Observer, sender
from .runs import HAS_UNIT_TEST, RUN_ID, WITHOUT_NODES, run_recorded

EVENTS, SPANS = 34 + 2 * HAS_UNIT_TEST, 18 + HAS_UNIT_TEST
BUDGET_SECONDS = 3.0  # that the README promises
NEXT_RUN = "6f8b6a52-6f3a-4c35-9a2e-1f2d3c4b5a70"
# The limits that docs/lineage.md names.
FAILURES = 3  # in a row, after which a channel pauses
FOLDER_BYTES = 64 * 1024 * 1024  # of what waits on disk
# Status of an answer -> what becomes of events and spans. Those that are refused would be refused again. The others
# wait for a correct URL, a correct key, or an endpoint that works.
FATES = {
    400: "dropped",
    413: "dropped",
    422: "dropped",
    401: "spooled",
    403: "spooled",
    404: "spooled",
    500: "spooled",
}
LINEAGE = "/api/v1/lineage"
COUNTED_TAG = ".dagster/floe_counted"  # which Dagster does not show


@contextmanager
def dead() -> Iterator[tuple[str, list[Any]]]:
    """Yield a URL at which nothing listens."""
    yield dead_url(), []


@contextmanager
def hanging() -> Iterator[tuple[str, list[Any]]]:
    """Yield the URL of an endpoint that never answers."""
    with serve() as endpoint:
        endpoint.hangs = True
        yield endpoint.url, endpoint.events


@contextmanager
def redirecting() -> Iterator[tuple[str, list[Any]]]:
    """Yield the URL of an endpoint that redirects to another, and the requests that the other gets."""
    with serve() as endpoint, serve() as other:
        endpoint.redirects_to = other.url
        yield endpoint.url, other.requests


@contextmanager
def denying() -> Iterator[tuple[str, list[Any]]]:
    """Yield the URL of an endpoint whose status is neither a success nor an error that HTTP knows."""
    with serve() as endpoint:
        endpoint.status = 999
        yield endpoint.url, endpoint.events


@pytest.fixture
def allowed_seconds(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return how long each channel was allowed to go on sending when the run had ended."""
    allowed: list[float] = []
    close = sender.Delivery.close

    def measured(self: Any, deadline: float) -> Any:
        allowed.append(deadline - time.monotonic())
        return close(self, deadline)

    monkeypatch.setattr(sender.Delivery, "close", measured)
    return allowed


def join_senders() -> None:
    """Wait for threads that a run has left behind: its process would have ended with it."""
    for thread in threading.enumerate():
        if thread.name.startswith("floe-"):
            thread.join(30)
            assert not thread.is_alive()


@pytest.mark.parametrize("fault", [dead, hanging, redirecting, denying])
def test_endpoint(fault: Callable[[], Any], allowed_seconds: list[float], tmp_path: Path, state_folder: Path) -> None:
    """The run ends in time and says that all is kept; the next run sends it, in order, each event and span once."""
    with fault() as (url, taken):
        tags = run_recorded(tmp_path, lineage_url=url, otlp_url=url, patience=0)

        assert tags["floe/lineage"] == f"{EVENTS} spooled"
        assert tags["floe/traces"] == f"{SPANS} spooled"
        assert "sent" not in tags["floe/metrics"]
        assert taken == []
    assert len(allowed_seconds) == 3
    assert max(allowed_seconds) <= BUDGET_SECONDS
    assert any(state_folder.iterdir())
    join_senders()

    with serve() as endpoint:
        tags = run_recorded(tmp_path / "next", lineage_url=endpoint.url, otlp_url=endpoint.url, run_id=NEXT_RUN)
        join_senders()

    states = [
        (event["run"]["runId"], event["eventType"] == "START")
        for event in endpoint.events
        if dagster_run(event) == RUN_ID
    ]
    spans = Counter(span.trace_id.hex() for span in endpoint.spans)
    assert tags["floe/lineage"] == f"{EVENTS} sent, {EVENTS} replayed"
    assert len(states) == len(set(states)) == EVENTS
    assert all(states.index((run_id, True)) < states.index((run_id, False)) for run_id, _ in states)
    assert spans == {run_id.replace("-", ""): SPANS for run_id in (RUN_ID, NEXT_RUN)}


def dagster_run(event: dict[str, Any]) -> str:
    """Return the id of the Dagster run that an event belongs to."""
    parent = event["run"]["facets"].get("parent")
    run_id: str = parent["root"]["run"]["runId"] if parent else event["run"]["runId"]
    return run_id


@pytest.mark.parametrize("status", FATES)
def test_status(status: int, tmp_path: Path) -> None:
    """What an endpoint refuses for good is dropped; everything else that it does not take waits for the next run."""
    with serve() as endpoint:
        endpoint.status = status
        tags = run_recorded(tmp_path, lineage_url=endpoint.url, otlp_url=endpoint.url, recording=WITHOUT_NODES)

    # Metrics never wait.
    assert tags == {
        "floe/lineage": f"4 {FATES[status]}",
        "floe/traces": f"3 {FATES[status]}",
        "floe/metrics": "1 dropped",
    }


def before_end(monkeypatch: pytest.MonkeyPatch, action: Callable[[], None]) -> None:
    """Do something when dbt has ended, before the run ends."""
    finish = Observer.finish

    def acted(self: Any, error: BaseException | None) -> None:
        action()
        finish(self, error)

    monkeypatch.setattr(Observer, "finish", acted)


def test_pause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An endpoint that fails three times in a row is left alone: it is not asked for each event."""
    with serve() as endpoint:
        endpoint.status = 500
        before_end(monkeypatch, lambda: time.sleep(0.5))
        tags = run_recorded(tmp_path, lineage_url=endpoint.url)

    assert endpoint.requests.count(LINEAGE) == FAILURES
    assert tags["floe/lineage"] == f"{EVENTS} spooled"


def test_after_pause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An endpoint that works again after a pause gets all events of the run."""
    monkeypatch.setattr(sender, "REST_SECONDS", 0.5)

    def recover() -> None:
        wait_until(lambda: endpoint.requests.count(LINEAGE) >= FAILURES)
        time.sleep(0.1)  # the third answer may be under way
        endpoint.status = 200
        wait_until(lambda: len(endpoint.events) > 0)

    with serve() as endpoint:
        endpoint.status = 500
        before_end(monkeypatch, recover)
        tags = run_recorded(tmp_path, lineage_url=endpoint.url)

    assert tags["floe/lineage"] == f"{EVENTS} sent"


def wait_until(is_true: Callable[[], bool]) -> None:
    """Wait at most 10 seconds for a condition."""
    latest = time.monotonic() + 10
    while not is_true():
        assert time.monotonic() < latest
        time.sleep(0.01)


def test_queue_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not fit into memory waits on disk, and the next run sends it."""
    with serve() as endpoint:
        with monkeypatch.context() as limited:
            limited.setattr(sender, "QUEUE_BYTES", 0)
            tags = run_recorded(tmp_path, lineage_url=endpoint.url, recording=WITHOUT_NODES)
        assert (tags["floe/lineage"], endpoint.events) == ("4 spooled", [])

        tags = run_recorded(tmp_path, lineage_url=endpoint.url, recording=WITHOUT_NODES, run_id=NEXT_RUN)
        assert tags["floe/lineage"] == "4 sent, 4 replayed"


def test_folder_full(tmp_path: Path, state_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What waits on disk has a limit, and the log says that it is reached."""
    (state_folder / "lineage").mkdir(parents=True)
    with (state_folder / "lineage" / "earlier-1-a.ndjson").open("wb") as file:
        file.truncate(FOLDER_BYTES)
    tags = run_recorded(tmp_path, lineage_url=dead_url(), recording=WITHOUT_NODES)

    assert tags["floe/lineage"] == "5 dropped"  # with what the file has, which is not an event
    [line] = [json.loads(line) for line in capsys.readouterr().err.splitlines() if "of 64 MiB" in line]
    assert line["level"] == "warning"
    assert "has reached its limit" in line["event"]


@pytest.mark.skipif(sys.platform == "win32", reason="files have no such mode there")
def test_private(tmp_path: Path, state_folder: Path) -> None:
    """What waits on disk can be read only by its owner."""
    url = dead_url()
    run_recorded(tmp_path, lineage_url=url, otlp_url=url, recording=WITHOUT_NODES)
    files = [*(state_folder / "lineage").glob("*.ndjson"), *(state_folder / "traces").glob("*.ndjson")]

    assert len(files) == 2
    assert {file.stat().st_mode & 0o077 for file in files} == {0}


def test_endless_answer(tmp_path: Path) -> None:
    """An answer that never ends costs no more than its beginning: its status has arrived."""
    with serve() as endpoint:
        endpoint.is_endless = True
        tags = run_recorded(tmp_path, lineage_url=endpoint.url, otlp_url=endpoint.url, patience=7)

    assert (tags["floe/lineage"], tags["floe/traces"]) == (f"{EVENTS} sent", f"{SPANS} sent")


def test_counts_added(tmp_path: Path) -> None:
    """The tags of a run count what all its steps and attempts have sent, each kind for itself."""
    before = {
        COUNTED_TAG: RUN_ID,
        "floe/lineage": "3 sent, 2 spooled",
        "floe/traces": "off",
        "floe/metrics": "1 dropped",
    }
    with serve() as endpoint:
        tags = run_recorded(
            tmp_path,
            lineage_url=endpoint.url,
            otlp_url=endpoint.url,
            recording=WITHOUT_NODES,
            tags_before=before | {"team": "sales"},
        )

    assert tags == {
        "floe/lineage": "7 sent, 2 spooled",
        "floe/traces": "3 sent",
        "floe/metrics": "1 dropped, 1 sent",
        "team": "sales",
    }


def test_counts_of_other_run(tmp_path: Path) -> None:
    """A run that repeats another one counts anew: Dagster copies the tags of the first."""
    before = {COUNTED_TAG: NEXT_RUN, "floe/lineage": "3 sent, 2 spooled"}
    with serve() as endpoint:
        tags = run_recorded(tmp_path, lineage_url=endpoint.url, recording=WITHOUT_NODES, tags_before=before)

    assert tags["floe/lineage"] == "4 sent"


def test_off(tmp_path: Path) -> None:
    """Without endpoints the run sends nothing, keeps nothing and says so."""
    tags = run_recorded(tmp_path)

    assert tags == {"floe/lineage": "off", "floe/traces": "off", "floe/metrics": "off"}
