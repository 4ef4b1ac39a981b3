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
    """Say whether no other step with dbt is left to be run, as far as the run's event log tells."""
    snapshot = context.run.execution_plan_snapshot_id
    if len(steps_of_run(context)) <= 1 or snapshot is None:
        return True
    plan = context.instance.get_execution_plan_snapshot(snapshot)
    upstream = {step.key: {key for put in step.inputs for key in put.upstream_step_keys} for step in plan.steps}
    stats = context.instance.get_run_step_stats(context.run_id)
    ended = {each.step_key for each in stats if each.end_time}
    # What lies below a failed step is never run, and has no end.
    dead = {each.step_key for each in stats if each.status is StepEventStatus.FAILURE}
    while more := {key for key, above in upstream.items() if above & dead} - dead:
        dead |= more
    with_dbt = {step.key for step in plan.steps if any(tag.startswith("dagster_dbt/") for tag in step.tags or ())}
    left = with_dbt & set(plan.step_keys_to_execute) - ended - dead
    return left <= {context.get_step_execution_context().step.key}


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
