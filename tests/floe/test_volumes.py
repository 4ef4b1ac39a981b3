"""Tests of the volumes and costs that adapters report, with the recorded responses of all targets."""

from __future__ import annotations

from typing import Any

import pytest
from pipeline.floe.dbt.volumes import volumes

from tests.lineage.replay import RECORDED, RECORDINGS, lines

BIGQUERY = {
    "code": "CREATE TABLE",
    "rows_affected": 120,
    "bytes_processed": 2**40,
    "bytes_billed": 2**41,
    "slot_ms": 1_800_000,
    "job_id": "job-1",
    "location": "US",
}
PLAIN = {"_message", "code", "location", "project_id"}  # neither a volume nor a query


@pytest.mark.parametrize("target", RECORDINGS)
def test_recorded(target: str) -> None:
    """Each number that an adapter reports is known, except for -1, which means that it has not counted."""
    responses: list[dict[str, Any]] = [
        line["data"]["run_result"]["adapter_response"] for line in lines(RECORDED / target / "debug_log.jsonl")
    ]
    assert any(responses)
    for response in responses:
        known = volumes(response, {})
        expected = {name: value for name, value in response.items() if name not in PLAIN and value != -1}
        assert expected == {
            "job_id" if name == "query_id" and "job_id" in response else name: value for name, value in known.items()
        }


@pytest.mark.parametrize(
    ("prices", "cost"),
    [({"tebibyte": 6.25}, 12.5), ({"slot_hour": 0.04}, 0.02), ({"tebibyte": 0.0, "slot_hour": 0.0}, None), ({}, None)],
)
def test_cost(prices: dict[str, float], cost: float | None) -> None:
    """The cost is that of the billed bytes or of the slots, and is left out without a price."""
    assert cost == volumes(BIGQUERY, prices).get("cost")


def test_no_cost() -> None:
    """An adapter that reports neither bytes nor slots has no cost, whatever the prices."""
    response = {"code": "SUCCESS", "rows_affected": 3, "query_id": "01b"}

    assert {"rows_affected": 3, "query_id": "01b"} == volumes(response, {"tebibyte": 6.25, "slot_hour": 0.04})
