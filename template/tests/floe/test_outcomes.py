"""The outcome of each status of dbt's, and of a run that succeeds, is retried or is stopped."""

from __future__ import annotations

import copy
import random
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from .endpoint import serve
from .everything import NOT_NULL
from .runs import FAILURE, RECORDING, WITHOUT_NODES, Sent, run_recorded, send_recorded
from .test_attributes import as_dict

# Node -> a status of dbt's, the end of its run, and whether its span is an error. success, pass, error, fail, warn and
# skipped are in the recording.
STATUSES = {
    "seed.shop.raw_customers": ("no-op", "COMPLETE", False),
    "seed.shop.raw_orders": ("reused", "COMPLETE", False),
    "seed.shop.payments_export": ("partial success", "FAIL", True),
    "model.shop.stg_orders": ("runtime error", "FAIL", True),
    "model.shop.stg_customers": ("a status of the future", "FAIL", True),
    NOT_NULL: ("error", "FAIL", True),
}
GOOD = {"success", "pass", "warn"}


def with_statuses(statuses: dict[str, str]) -> dict[str, Any]:
    """Return the recording with other statuses of some nodes."""
    changed: dict[str, Any] = copy.deepcopy(RECORDING)
    for event in (*changed["printed"], *changed["finished"]):
        node = event["data"].get("node_info", {})
        if (status := statuses.get(node.get("unique_id"))) and node.get("node_finished_at"):
            node["node_status"] = status
            event["data"]["status"] = status
            event["data"].get("run_result", {})["status"] = status
    return changed


def only_good() -> dict[str, Any]:
    """Return the part of the recording in which nothing failed."""
    good = copy.deepcopy(RECORDING)
    bad = {
        event["data"]["node_info"]["unique_id"]
        for event in good["finished"]
        if event["data"]["run_result"]["status"] not in GOOD
    }
    for part in ("printed", "finished"):
        good[part] = [e for e in good[part] if e["data"].get("node_info", {}).get("unique_id") not in bad]
    return dict(good)


def ends(sent: Sent) -> dict[str, str]:
    """Return the end of each run."""
    return {event["job"]["name"]: event["eventType"] for event in sent.events if event["eventType"] != "START"}


def test_statuses(tmp_path: Path) -> None:
    """Each status is the end that it means; one that is not known is a failure."""
    sent = send_recorded(tmp_path, recording=with_statuses({name: status for name, (status, _, _) in STATUSES.items()}))
    errors = {span.name for span in sent.spans if span.status.code == Status.STATUS_CODE_ERROR}

    assert {name: (status, ends(sent)[name], name in errors) for name, (status, _, _) in STATUSES.items()} == STATUSES
    assert {as_dict(sent.span(name).attributes)["dbt.status"] for name in STATUSES} == {
        status for status, _, _ in STATUSES.values()
    }


def test_test_not_run(tmp_path: Path) -> None:
    """A test that could not be run says nothing of its table."""
    event = send_recorded(tmp_path, recording=with_statuses({NOT_NULL: "error"})).event(NOT_NULL)
    [table] = event["inputs"]
    [execution] = event["run"]["facets"]["test"]["tests"]

    assert execution["status"] == "skip"
    assert "actual" not in execution
    assert "dataQualityAssertions" not in table["inputFacets"]


def test_success(tmp_path: Path) -> None:
    """A run in which nothing fails is complete, without an error."""
    sent = send_recorded(tmp_path, recording=only_good(), error=None)

    assert set(ends(sent).values()) == {"COMPLETE"}
    assert [span.name for span in sent.spans if span.status.code != Status.STATUS_CODE_UNSET or span.events] == []
    assert [event["job"]["name"] for event in sent.events if "errorMessage" in event["run"]["facets"]] == []


def test_stopped(tmp_path: Path) -> None:
    """A run that is stopped is aborted, and so is what was running; what had ended stays as it was."""
    part = copy.deepcopy(RECORDING)
    started = next(
        number
        for number, event in enumerate(part["printed"])
        if event["data"].get("node_info", {}).get("unique_id") == "model.shop.orders"
    )
    part["printed"] = part["printed"][: started + 1]
    nodes = [event["data"]["node_info"] for event in part["printed"] if "node_info" in event["data"]]
    ended = {node["unique_id"] for node in nodes if node["node_finished_at"]}
    stopped = {"daily", "dbt.shop", *(node["unique_id"] for node in nodes)} - ended
    sent = send_recorded(tmp_path, recording=part, error=KeyboardInterrupt())

    assert {job for job, end in ends(sent).items() if end == "ABORT"} == stopped
    assert {end for job, end in ends(sent).items() if job not in stopped} == {"COMPLETE"}
    assert as_dict(sent.span("model.shop.orders").attributes)["error.type"] == "dbt.interrupted"


def test_failed_early(tmp_path: Path) -> None:
    """What was running when dbt failed has failed, too, and says so."""
    first = next(number for number, event in enumerate(RECORDING["printed"]) if "node_info" in event["data"])
    part = {**RECORDING, "printed": RECORDING["printed"][: first + 1]}
    sent = send_recorded(tmp_path, recording=part, error=FAILURE)
    open_nodes = [job for job in ends(sent) if job not in {"daily", "dbt.shop"}]

    assert open_nodes
    assert set(ends(sent).values()) == {"FAIL"}
    messages = [sent.event(job)["run"]["facets"]["errorMessage"]["message"] for job in open_nodes]
    assert set(messages) == {str(FAILURE)}


def test_detail_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of the package costs details, not the event, which says so; the run's tags count its nodes."""
    monkeypatch.delenv("FLOE_RAISE")
    faulty: dict[str, Any] = copy.deepcopy(RECORDING)
    faulty["nodes"]["model.shop.daily_revenue"]["tags"] = 3
    sent = send_recorded(tmp_path, recording=faulty)
    facet = sent.event("model.shop.daily_revenue")["run"]["facets"]["extractionError"]
    [error] = facet["errors"]

    assert (facet["totalTasks"], facet["failedTasks"], error["task"]) == (1, 1, "floe")
    assert "details of this event lost to an internal error" in error["errorMessage"]
    assert sent.tags["floe/lineage"] == f"{len(sent.events)} sent (detail lost for 1 node)"


def test_retry(tmp_path: Path) -> None:
    """A later attempt counts the earlier ones and does not start the Dagster run again; a range has both its keys."""
    tags = {"dagster/asset_partition_range_start": "2026-11-01", "dagster/asset_partition_range_end": "2026-11-03"}
    context = {
        "run": type("Run", (), {"execution_plan_snapshot_id": "plan", "parent_run_id": None, "tags": tags}),
        "retry_number": 2,
        "has_partition_key_range": True,
    }
    sent = send_recorded(tmp_path, context=context)
    attributes = as_dict(sent.span("model.shop.orders").attributes)

    assert [event["eventType"] for event in sent.events if event["job"]["name"] == "daily"] == ["FAIL"]
    assert {key: value for key, value in attributes.items() if key.startswith(("dagster.retry", "dagster.part"))} == {
        "dagster.retry_number": 2,
        "dagster.partition_key_range.start": "2026-11-01",
        "dagster.partition_key_range.end": "2026-11-03",
    }
    assert {tag["key"] for tag in sent.event("daily")["run"]["facets"]["tags"]["tags"]} >= tags.keys()


def test_schedule(tmp_path: Path) -> None:
    """A run without a partition is for the time at which its schedule has started it."""
    tags = {".dagster/scheduled_execution_time": "2026-11-23T05:00:00+00:00"}
    context = {"run": type("Run", (), {"execution_plan_snapshot_id": "plan", "parent_run_id": None, "tags": tags})}
    sent = send_recorded(tmp_path, context=context, recording=WITHOUT_NODES)

    assert sent.event("daily")["run"]["facets"]["nominalTime"]["nominalStartTime"] == "2026-11-23T05:00:00+00:00"


def test_partition_range(tmp_path: Path) -> None:
    """A run of several partitions is for the time that they cover together."""
    tags = {"dagster/asset_partition_range_start": "2026-11-01", "dagster/asset_partition_range_end": "2026-11-03"}
    context = {
        "run": SimpleNamespace(execution_plan_snapshot_id="plan", parent_run_id=None, tags=tags),
        "has_partition_key_range": True,
        "partition_time_window": SimpleNamespace(
            start=datetime(2026, 11, 1, tzinfo=UTC), end=datetime(2026, 11, 4, tzinfo=UTC)
        ),
    }
    sent = send_recorded(tmp_path, context=context, recording=WITHOUT_NODES)
    times = [sent.event(job)["run"]["facets"]["nominalTime"] for job in ("daily", "dbt.shop")]

    assert {(time["nominalStartTime"], time["nominalEndTime"]) for time in times} == {
        ("2026-11-01T00:00:00+00:00", "2026-11-04T00:00:00+00:00")
    }


def test_no_nominal_time(sent: Sent) -> None:
    """A run without a partition and a schedule is for no certain time."""
    assert [event["job"]["name"] for event in sent.events if "nominalTime" in event["run"]["facets"]] == []


def test_sampler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sampler keeps about its part of the runs, each whole."""
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0.25")
    dice = random.Random(1)  # noqa: S311 - not for secrets
    numbers: list[int] = []
    with serve() as endpoint:
        for number in range(16):
            run_id = str(UUID(int=dice.getrandbits(128), version=4))
            before = len(endpoint.spans)
            run_recorded(tmp_path / str(number), otlp_url=endpoint.url, run_id=run_id, recording=WITHOUT_NODES)
            numbers.append(len(endpoint.spans) - before)

    assert set(numbers) == {0, 3}
    assert 1 <= numbers.count(3) <= 8
