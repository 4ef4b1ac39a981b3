"""The names and values in dbt's raw events.

In: the parts of an event that dbt writes in several forms. Out: the value in one form, with times in UTC.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

# Events that end a node, by dbt Core's names. Fusion has only NodeFinished.
RESULTS = {
    "LogFreshnessResult",
    "LogFunctionResult",
    "LogHookEndLine",
    "LogModelResult",
    "LogNodeNoOpResult",
    "LogSeedResult",
    "LogSnapshotResult",
    "LogTestResult",
}
SKIPS = {"SkippingDetails", "LogSkipBecauseError"}
STARTS = {"LogHookStartLine", "LogStartLine", "NodeStart"}

Raw = Mapping[str, Any]


def status_of(data: Raw) -> str:
    """Return a node's final status in lower case; blank if the event has none."""
    # A unit test's node_status is the string "None", and a model's data.status is the engine's response, such as "OK".
    statuses = ((data.get("run_result") or {}).get("status"), data["node_info"].get("node_status"), data.get("status"))
    return next((text.lower() for text in statuses if text and text.lower() not in {"none", "started"}), "")


def executed(result: Raw) -> tuple[datetime, datetime] | None:
    """Return when a node's execution began and ended, including its compilation."""
    phases = [
        phase for phase in result.get("timing_info") or () if phase.get("started_at") and phase.get("completed_at")
    ]
    if not phases:
        return None
    return parse_time(phases[0]["started_at"]), parse_time(phases[-1]["completed_at"])


def time_of(node: Raw, key: str) -> datetime | None:
    """Return a time from an event's `node_info`, or None if it is not set."""
    text = node.get(key)
    return parse_time(text) if text and text != "None" else None


def parse_time(text: str) -> datetime:
    """Return a time of dbt in UTC; dbt writes the times of nodes in UTC without a zone."""
    time = datetime.fromisoformat(text)
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
