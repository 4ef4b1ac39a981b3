"""Delivery to endpoints that are dead, hang or redirect: the run goes on, and nothing is lost or counted falsely."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from .endpoint import dead_url, serve
from .package import sender
from .runs import HAS_UNIT_TEST, RUN_ID, run_recorded

EVENTS, SPANS = 34 + 2 * HAS_UNIT_TEST, 18 + HAS_UNIT_TEST
BUDGET_SECONDS = 3.0  # that the README promises
NEXT_RUN = "6f8b6a52-6f3a-4c35-9a2e-1f2d3c4b5a70"


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


def test_off(tmp_path: Path) -> None:
    """Without endpoints the run sends nothing, keeps nothing and says so."""
    tags = run_recorded(tmp_path)

    assert tags == {"floe/lineage": "off", "floe/traces": "off", "floe/metrics": "off"}
