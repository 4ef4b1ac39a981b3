"""What Dagster knows of the step that runs dbt, and of its run."""

from __future__ import annotations

from datetime import UTC, datetime

import dagster as dg
from dagster._core.execution.stats import StepEventStatus


def run_started_at(context: dg.AssetExecutionContext) -> datetime:
    """Return when the run started."""
    record = context.instance.get_run_record_by_id(context.run_id)
    return datetime.fromtimestamp(record.start_time, UTC) if record and record.start_time else datetime.now(UTC)


def steps_of_run(context: dg.AssetExecutionContext) -> set[str]:
    """Return the keys of all steps that the run's plan has; nothing where there is no plan, as in a test."""
    snapshot = context.run.execution_plan_snapshot_id
    if snapshot is None:
        return set()
    return set(context.instance.get_execution_plan_snapshot(snapshot).step_keys_to_execute)


def is_last_step(context: dg.AssetExecutionContext) -> bool:
    """Say whether no other step of the run is left, as far as its event log tells."""
    steps = steps_of_run(context)
    if len(steps) <= 1:
        return True
    ended = {stats.step_key for stats in context.instance.get_run_step_stats(context.run_id) if stats.end_time}
    return steps - ended <= {context.get_step_execution_context().step.key}


def has_failed_step(context: dg.AssetExecutionContext) -> bool:
    """Say whether another step of the run has failed, as far as its event log tells."""
    if len(steps_of_run(context)) <= 1:
        return False
    return any(stats.status is StepEventStatus.FAILURE for stats in context.instance.get_run_step_stats(context.run_id))


def will_be_retried(context: dg.AssetExecutionContext, error: BaseException | None) -> bool:
    """Say whether Dagster runs the step again after `error`."""
    if isinstance(error, dg.RetryRequested):
        return bool(context.retry_number < error.max_retries)
    policy = context.get_step_execution_context().op_retry_policy
    if policy is None or not isinstance(error, Exception) or not getattr(error, "allow_retries", True):
        return False
    return bool(context.retry_number < policy.max_retries)
