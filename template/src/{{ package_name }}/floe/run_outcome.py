"""The end of a Dagster step and of its run, read from Dagster's event log."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import dagster as dg

from .dbt.failures import dbt_message
from .dbt.node_events import Outcome
from .redact import ANSI_CODES, redact
from .step import Context, Plan, Step, read_plan

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
WRAPPERS = {
    "DagsterExecutionStepExecutionError",
    "DagsterExecutionLoadInputError",
    "DagsterExecutionHandleOutputError",
    "RetryRequestedFromPolicy",
}


NOT_FAILED = {Outcome.SUCCESS, Outcome.SKIPPED}

# Of the last run of this process: the cursor in its event log, and the ends of its steps up to there.
_read_ends: dict[str, tuple[str | None, dict[str, StepEnd]]] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class StepEnd:
    """The end of an attempt at a step; if it did not succeed, with the reason and the class of the exception."""

    outcome: Outcome
    message: str | None = None
    error_type: str | None = None
    is_retried: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnd:
    """The end of a Dagster run; `is_certain` is false while a step that is not watched may still change the outcome."""

    outcome: Outcome
    message: str | None
    is_certain: bool
    error_type: str | None = None


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
        error_type=error.cls_name if error else None,
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


def run_end(context: Context, step: Step, end: StepEnd, *, all_steps: bool) -> RunEnd | None:
    """Return the end of the run if `step` was the last one watched; the outcome is the worst of all its steps.

    In a run of several steps, the step whose end is recorded last in the run's event log reports the end. Call this
    after Dagster has recorded `end` there. All steps are watched with `all_steps`, otherwise only those with dbt.
    """
    if end.is_retried:
        record = context.instance.get_run_record_by_id(step.run_id)
        if record is None or record.dagster_run.status not in CANCELED:
            return None
    if end.is_retried or step.is_whole_run:
        return RunEnd(outcome=end.outcome, message=end.message, is_certain=True, error_type=end.error_type)
    ends = _recorded_ends(context, step.run_id)
    ends.setdefault(step.key, end)
    if all_steps and len(ends) < len(step.run_steps) and all(end.outcome in NOT_FAILED for end in ends.values()):
        return None  # without looking at the plan, which a run of many steps would do after each of them
    plan = read_plan(context)
    if plan.is_dynamic:
        plan = plan.resolved(_mapping_keys(context, step.run_id))
    watched = plan.keys if all_steps else plan.with_dbt
    left = plan.to_execute - ends.keys() - _never_run(plan, ends)
    last_watched = [key for key in ends if key in watched | {step.key}][-1]
    if last_watched != step.key or left & watched:
        return None
    worst = _worst([end, *ends.values()])
    return RunEnd(outcome=worst.outcome, message=worst.message, is_certain=not left, error_type=worst.error_type)


def _recorded_ends(context: Context, run_id: str) -> dict[str, StepEnd]:
    """Return the ends of the run's steps by step key, oldest first; this process reads each of them once."""
    cursor, ends = _read_ends.get(run_id, (None, {}))
    connection = context.instance.get_records_for_run(run_id, cursor=cursor, of_type=FINAL_EVENTS)
    events = [record.event_log_entry.dagster_event for record in connection.records]
    ends |= {event.step_key: step_end(event) for event in events if event and event.step_key}
    _read_ends.clear()
    _read_ends[run_id] = connection.cursor, ends
    return dict(ends)


def _mapping_keys(context: Context, run_id: str) -> dict[str, set[str]]:
    """Return the keys of the dynamic outputs that the run's steps have yielded, by step key."""
    keys: dict[str, set[str]] = {}
    for record in context.instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.STEP_OUTPUT).records:
        event = record.event_log_entry.dagster_event
        if event and event.step_key and (key := event.step_output_data.mapping_key):
            keys.setdefault(event.step_key, set()).add(key)
    return keys


def _never_run(plan: Plan, ends: Mapping[str, StepEnd]) -> set[str]:
    """Return the steps downstream of a failed one: Dagster does not run them and records no end."""
    dead = {key for key, end in ends.items() if end.outcome in {Outcome.FAIL, Outcome.INTERRUPTED}}
    while more := {key for key, above in plan.upstream.items() if above & dead} - dead:
        dead |= more
    return dead


def _worst(ends: Collection[StepEnd]) -> StepEnd:
    """Return the first end with the worst outcome."""
    for outcome in (Outcome.FAIL, Outcome.INTERRUPTED):
        for end in ends:
            if end.outcome is outcome:
                return end
    return StepEnd(outcome=Outcome.SUCCESS)
