"""The end of a Dagster step and of its run, read from Dagster's event log."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import dagster as dg

from .dbt.failures import dbt_message
from .dbt.node_events import Outcome
from .redact import ANSI_CODES, redact
from .step import Context, Step

# The events after which a step does not run again.
FINAL_EVENTS = {dg.DagsterEventType.STEP_SUCCESS, dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.STEP_SKIPPED}
OUTCOMES = {
    dg.DagsterEventType.STEP_SUCCESS: Outcome.SUCCESS,
    dg.DagsterEventType.STEP_SKIPPED: Outcome.SKIPPED,
}
CANCELED = {dg.DagsterRunStatus.CANCELING, dg.DagsterRunStatus.CANCELED}
INTERRUPTS = (GeneratorExit, KeyboardInterrupt, dg.DagsterExecutionInterruptedError)
INTERRUPT_NAMES = {interrupt.__name__ for interrupt in INTERRUPTS}
# The errors in which Dagster wraps an asset's exception.
WRAPPERS = {"DagsterExecutionStepExecutionError", "RetryRequestedFromPolicy"}


@dataclass(frozen=True, slots=True, kw_only=True)
class StepEnd:
    """The end of an attempt at a step; `message` is the reason if it did not succeed."""

    outcome: Outcome
    message: str | None = None
    is_retried: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnd:
    """The end of a Dagster run; `is_certain` is false while a step without dbt may still change the outcome."""

    outcome: Outcome
    message: str | None
    is_certain: bool


def step_end(event: dg.DagsterEvent) -> StepEnd:
    """Return the end of an attempt from Dagster's last event of it."""
    outcome = OUTCOMES.get(event.event_type)
    if outcome is not None:
        return StepEnd(outcome=outcome)
    error = getattr(event.event_specific_data, "error", None)
    while error and error.cause and error.cls_name in WRAPPERS:
        error = error.cause
    text = error.message.partition(f"{error.cls_name}: ")[2] or error.message if error else "no reason was given"
    return StepEnd(
        outcome=Outcome.INTERRUPTED if error and error.cls_name in INTERRUPT_NAMES else Outcome.FAIL,
        message=_reason(text),
        is_retried=event.event_type is dg.DagsterEventType.STEP_UP_FOR_RETRY,
    )


def command_end(error: BaseException | None) -> StepEnd:
    """Return the end of a command from the error that it raised, or None if it succeeded."""
    if error is None:
        return StepEnd(outcome=Outcome.SUCCESS)
    return StepEnd(
        outcome=Outcome.INTERRUPTED if isinstance(error, INTERRUPTS) else Outcome.FAIL,
        message=_reason(str(error)) or type(error).__name__,
    )


def _reason(text: str) -> str:
    """Return an error's text for lineage and spans: dbt's own message, without colors and secrets."""
    return redact(dbt_message(ANSI_CODES.sub("", text).strip()))


def run_end(context: Context, step: Step, end: StepEnd) -> RunEnd | None:
    """Return the end of the run if `step` was its last one with dbt; the outcome is the worst of all its steps.

    In a run of several steps, the step whose end is recorded last in the run's event log reports the end. Call this
    after Dagster has recorded `end` there.
    """
    if end.is_retried:
        record = context.instance.get_run_record_by_id(step.run_id)
        if record is None or record.dagster_run.status not in CANCELED:
            return None
    if end.is_retried or step.is_whole_run:
        return RunEnd(outcome=end.outcome, message=end.message, is_certain=True)
    ends = _recorded_ends(context, step.run_id)
    ends.setdefault(step.key, end)
    plan = context.instance.get_execution_plan_snapshot(context.run.execution_plan_snapshot_id or "")
    with_dbt = {step.key for step in plan.steps if any(tag.startswith("dagster_dbt/") for tag in step.tags or ())}
    left = step.run_steps - ends.keys() - _never_run(plan.steps, ends)
    last_with_dbt = [key for key in ends if key in with_dbt | {step.key}][-1]
    if last_with_dbt != step.key or left & with_dbt:
        return None
    worst = _worst([end, *ends.values()])
    return RunEnd(outcome=worst.outcome, message=worst.message, is_certain=not left)


def _recorded_ends(context: Context, run_id: str) -> dict[str, StepEnd]:
    """Return the ends of the run's steps by step key, oldest first."""
    records = context.instance.get_records_for_run(run_id, of_type=FINAL_EVENTS).records
    events = [record.event_log_entry.dagster_event for record in records]
    return {event.step_key: step_end(event) for event in events if event and event.step_key}


def _never_run(steps: Collection[Any], ends: Mapping[str, StepEnd]) -> set[str]:
    """Return the steps downstream of a failed one: Dagster does not run them and records no end."""
    upstream = {step.key: {key for put in step.inputs for key in put.upstream_step_keys} for step in steps}
    dead = {key for key, end in ends.items() if end.outcome in {Outcome.FAIL, Outcome.INTERRUPTED}}
    while more := {key for key, above in upstream.items() if above & dead} - dead:
        dead |= more
    return dead


def _worst(ends: Collection[StepEnd]) -> StepEnd:
    """Return the first end with the worst outcome."""
    for outcome in (Outcome.FAIL, Outcome.INTERRUPTED):
        for end in ends:
            if end.outcome is outcome:
                return end
    return StepEnd(outcome=Outcome.SUCCESS)
