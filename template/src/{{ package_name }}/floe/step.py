"""The Dagster step that runs dbt, read once from Dagster's context.

Only this module reads Dagster's context, once per attempt at a step. Watchers, logs and ids use the `Step`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

import dagster as dg

from .ids import step_span_id, trace_id

logger = logging.getLogger(__name__)

Context = dg.AssetExecutionContext | dg.OpExecutionContext

# The tag of a Dagster run, and the variable of its process, that name the trace from which it was started.
TRACEPARENT_TAG = "traceparent"
TRACEPARENT = "TRACEPARENT"
RANGE_TAGS = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")

# Dagster's tag of a run that repeats another one from its failure.
FROM_FAILURE_TAG = "dagster/is_resume_retry"

PACKAGE = __name__.partition(".")[0]
# Prefixes of the jobs that Dagster defines itself. The first is for a schedule or sensor that targets a selection of
# assets, whose name follows the prefix. The second is for all others.
AUTOMATION_JOB = "__anonymous_asset_job_"
IMPLICIT_JOB = "__"
ASSET_JOB = "__ASSET_JOB"  # of the latter, the job of assets that are launched without a job


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One attempt at a Dagster step that runs dbt.

    Attributes:
        run_id: Dagster's run id, a UUID.
        job_name: Name of the run's job in Dagster, which makes up names for jobs that the project does not define.
        key: Key of the step.
        attempt: Number of earlier attempts at the step.
        run_started_at: Start of the run, in UTC.
        run_steps: Keys of all steps that the run executes; empty if the run has no plan, as in a test.
        tags: Tags of the run.
        partitions: First and last partition key, equal for a single partition.
        window: Start and end of the time that the partitions cover, if they are time partitions.
        has_retries: Whether Dagster repeats the step after a failure.
        parent_run_id: The run that this one repeats, wholly or in part, if it does.
        failed_run_id: The same run if only what has failed is repeated, and the step has no assets that are new.
        needed_outputs: In such a run, names of the step's outputs that other steps of the run need.
        traceparent: Trace from which the run was started (https://www.w3.org/TR/trace-context/).
        is_running: Says of a run id whether Dagster knows such a run, and does not know its end.
    """

    run_id: str
    job_name: str
    key: str
    run_started_at: datetime
    attempt: int = 0
    run_steps: frozenset[str] = frozenset()
    tags: Mapping[str, str] = field(default_factory=dict)
    partitions: tuple[str, str] | None = None
    window: tuple[datetime, datetime] | None = None
    has_retries: bool = False
    parent_run_id: str | None = None
    failed_run_id: str | None = None
    needed_outputs: frozenset[str] = frozenset()
    traceparent: str | None = None
    is_running: Callable[[str], bool] = field(default=lambda _: False, repr=False, compare=False)

    @property
    def display_name(self) -> str:
        """Return the name of the run's job for lineage and spans, which is the same in every run.

        A job that the project defines keeps its name. A job that Dagster made up is named after the package, because
        several projects may share a namespace: `my_pipeline.daily` for the schedule `daily` of assets, and
        `my_pipeline.assets` for assets that are built without a job.
        """
        if self.job_name.startswith(AUTOMATION_JOB):
            return f"{PACKAGE}.{self.job_name.removeprefix(AUTOMATION_JOB)}"
        return f"{PACKAGE}.assets" if self.job_name.startswith(IMPLICIT_JOB) else self.job_name

    @property
    def is_whole_run(self) -> bool:
        """Return whether the run has no other step."""
        return len(self.run_steps) <= 1

    @property
    def span_id(self) -> int:
        """Return the id of the attempt's span."""
        return step_span_id(self.run_id, self.key, self.attempt)


def read_step(context: Context) -> Step:
    """Read the step from Dagster's context."""
    tags = context.run.tags
    record = context.instance.get_run_record_by_id(context.run_id)
    started = datetime.fromtimestamp(record.start_time, UTC) if record and record.start_time else datetime.now(UTC)
    plan = _plan(context, context.run)
    key = context.get_step_execution_context().step.key
    failed_run_id = _failed_run_id(context, key, plan)
    return Step(
        run_id=context.run_id,
        job_name=context.job_name,
        key=key,
        run_started_at=started,
        attempt=context.retry_number,
        run_steps=frozenset(plan.step_keys_to_execute if plan else ()),
        tags=tags,
        partitions=_partitions(context),
        window=_window(context),
        has_retries=bool(context.get_step_execution_context().op_retry_policy),
        parent_run_id=context.run.parent_run_id,
        failed_run_id=failed_run_id,
        needed_outputs=frozenset(_needed_outputs(key, plan) if failed_run_id else ()),
        traceparent=tags.get(TRACEPARENT_TAG) or os.environ.get(TRACEPARENT),
        is_running=partial(is_running, context.instance),
    )


def is_running(instance: dg.DagsterInstance, run_id: str) -> bool:
    """Return whether a run is in Dagster's instance and has no end there."""
    run = instance.get_run_by_id(run_id)
    return run is not None and not run.is_finished


def has_empty_selection(context: Context) -> bool:
    """Return whether no asset matches the selection of `dg launch --assets`, which then builds all assets.

    Dagster records a selection for all other runs of the jobs that it defines itself.
    """
    run = context.run
    return run.job_name.startswith(ASSET_JOB) and run.asset_selection is None and run.asset_check_selection is None


def trace_environment(step: Step, *, is_sampled: bool = False) -> dict[str, str]:
    """Return the variables that hand the step's trace to dbt (https://www.w3.org/TR/trace-context/).

    Args:
        step: The step, whose span is the parent.
        is_sampled: Whether its trace is sent.
    """
    traceparent = f"00-{trace_id(step.run_id):032x}-{step.span_id:016x}-{is_sampled:02x}"
    # dbt repeats variables of the second kind in each line of its JSON log and in run_results.json.
    return {TRACEPARENT: traceparent, f"DBT_ENV_CUSTOM_ENV_{TRACEPARENT}": traceparent}


def _plan(context: Context, run: dg.DagsterRun) -> Any:
    """Return the execution plan that Dagster has stored of a run; None if the run has no plan, as in a test."""
    snapshot = run.execution_plan_snapshot_id
    return context.instance.get_execution_plan_snapshot(snapshot) if snapshot else None


def _failed_run_id(context: Context, key: str, plan: Any) -> str | None:
    parent = context.run.parent_run_id
    if context.run.tags.get(FROM_FAILURE_TAG) != "true" or parent is None or plan is None:
        return None
    run = context.instance.get_run_by_id(parent)
    before = _plan(context, run) if run else None
    return parent if before and _assets(key, plan) <= _assets(key, before) else None


def _assets(key: str, plan: Any) -> set[Any]:
    """Return the keys of the assets that a step builds."""
    return {
        output.properties.asset_key
        for step in plan.steps
        for output in step.outputs
        if step.key == key and output.properties and output.properties.asset_key
    }


def _needed_outputs(key: str, plan: Any) -> Iterator[str]:
    for step in plan.steps:
        if step.key in plan.step_keys_to_execute:
            for handle in (handle for put in step.inputs for handle in put.upstream_output_handles):
                if handle.step_key == key:
                    yield handle.output_name


def _partitions(context: Context) -> tuple[str, str] | None:
    if context.has_partition_key:
        return context.partition_key, context.partition_key
    if context.has_partition_key_range:
        # The context's `partition_key_range` needs the partitions definition. The tags hold the same keys.
        start, end = (context.run.tags[tag] for tag in RANGE_TAGS)
        return start, end
    return None


def _window(context: Context) -> tuple[datetime, datetime] | None:
    if not (context.has_partition_key or context.has_partition_key_range):
        return None
    try:
        window = context.partition_time_window
    except Exception:  # not time partitions; Dagster raises a different error for each kind
        logger.debug("The partitions have no time window.", exc_info=True)
        return None
    return window.start, window.end
