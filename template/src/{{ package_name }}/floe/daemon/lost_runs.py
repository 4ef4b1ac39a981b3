"""The runs that Dagster has marked failed or canceled while their own processes could not report it.

In: Dagster's run records and event logs. Out: the lost runs, each with its steps. A run is lost if a step has started,
and no process has sent the run's end. Processes say so in a tag of the run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from ..dbt.node_events import Outcome
from ..delivery.run_tags import ENDED_TAG
from ..redact import redact
from ..step import TRACEPARENT_TAG, Plan, Step

LOST_STATUSES = [dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
STARTS = {dg.DagsterEventType.STEP_START, dg.DagsterEventType.STEP_RESTARTED}
# The ends of an attempt that its own process has logged, and so has reported.
OWN_ENDS = {
    dg.DagsterEventType.STEP_SUCCESS,
    dg.DagsterEventType.STEP_UP_FOR_RETRY,
}
RUN_ENDS = {dg.DagsterEventType.RUN_FAILURE, dg.DagsterEventType.RUN_CANCELED}
PAGE = 100  # runs that are read at once
UNKNOWN = "The process of the run ended without reporting a result."


@dataclass(frozen=True, slots=True, kw_only=True)
class LostStep:
    """The last attempt at a step whose process is lost."""

    step: Step
    started_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class LostRun:
    """A run whose end no process has reported.

    Attributes:
        steps: The last attempts at its steps, at least one.
        outcome: Its outcome.
        message: Dagster's reason.
        ended_at: When Dagster noticed.
    """

    steps: list[LostStep]
    outcome: Outcome
    message: str
    ended_at: datetime

    @property
    def run_id(self) -> str:
        """Return Dagster's id."""
        return self.steps[0].step.run_id


def has_ended(run: dg.DagsterRun) -> bool:
    """Return whether a process has sent the run's end."""
    return run.tags.get(ENDED_TAG) == run.run_id


def lost_runs(instance: dg.DagsterInstance, since: datetime, location: str | None = None) -> Iterator[LostRun]:
    """Yield the lost runs that Dagster has updated after `since`.

    With `location`, the name of this code location, those of other locations are left out.
    """
    filters = dg.RunsFilter(statuses=LOST_STATUSES, updated_after=since)
    cursor = None
    while records := instance.get_run_records(filters, limit=PAGE, cursor=cursor):
        for record in records:
            run = record.dagster_run
            if not has_ended(run) and is_of(run, location) and (lost := _lost_run(instance, record)):
                yield lost
        cursor = records[-1].dagster_run.run_id


def is_of(run: dg.DagsterRun, location: str | None) -> bool:
    """Return whether a run belongs to a code location; a run of `dg launch` names none."""
    origin = run.remote_job_origin
    return origin is None or location is None or origin.location_name == location


def _lost_run(instance: dg.DagsterInstance, record: Any) -> LostRun | None:
    run = record.dagster_run
    plan = Plan.of(instance.get_execution_plan_snapshot(run.execution_plan_snapshot_id or ""))
    starts: dict[str, tuple[int, float]] = {}  # step key -> number of attempts, time of the last
    message, ended_at = UNKNOWN, record.end_time
    events = instance.get_records_for_run(run.run_id, of_type=STARTS | OWN_ENDS | RUN_ENDS).records
    for entry in (event.event_log_entry for event in events):
        event = entry.dagster_event
        if event is None:
            continue
        key = event.step_key or ""
        if event.event_type in RUN_ENDS:
            message, ended_at = event.message or message, ended_at or entry.timestamp
        elif event.event_type in STARTS:
            attempts, _ = starts.get(key, (0, 0.0))
            starts[key] = attempts + 1, entry.timestamp
        elif event.event_type in OWN_ENDS:
            starts.pop(key, None)
    if not starts:
        return None
    started = datetime.fromtimestamp(record.start_time or record.create_timestamp.timestamp(), UTC)
    steps = [
        LostStep(
            step=Step(
                run_id=run.run_id,
                job_name=run.job_name,
                key=key,
                run_started_at=started,
                attempt=attempts - 1,
                run_steps=plan.to_execute,
                tags=run.tags,
                traceparent=run.tags.get(TRACEPARENT_TAG),
            ),
            started_at=datetime.fromtimestamp(at, UTC),
        )
        for key, (attempts, at) in starts.items()
    ]
    is_failure = run.status is dg.DagsterRunStatus.FAILURE
    return LostRun(
        steps=steps,
        outcome=Outcome.FAIL if is_failure else Outcome.INTERRUPTED,
        message=redact(message),
        ended_at=datetime.fromtimestamp(ended_at, UTC) if ended_at else datetime.now(UTC),
    )
