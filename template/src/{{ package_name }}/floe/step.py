"""The Dagster step, read once from Dagster's context.

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

# The metadata of an asset's materialization, and its time in seconds since 1970; nothing and 0 if there is none.
LastMaterialization = tuple[Mapping[str, Any], float]
Context = dg.AssetExecutionContext | dg.OpExecutionContext

# The tag of a Dagster run, and the variable of its process, that name the trace from which it was started.
TRACEPARENT_TAG = "traceparent"
TRACEPARENT = "TRACEPARENT"
RANGE_TAGS = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")

# The start of the tags with which dagster-dbt marks the ops that run dbt.
DBT_TAG = "dagster_dbt/"

# In the key of a step that stands for one step per dynamic output.
UNRESOLVED = "[?]"

# Dagster's tag of a run that repeats another one from its failure.
FROM_FAILURE_TAG = "dagster/is_resume_retry"

PACKAGE = __name__.partition(".")[0]
# Prefixes of the jobs that Dagster defines itself. The first is for a schedule or sensor that targets a selection of
# assets, whose name follows the prefix. The second is for all others.
AUTOMATION_JOB = "__anonymous_asset_job_"
IMPLICIT_JOB = "__"
ASSET_JOB = "__ASSET_JOB"  # of the latter, the job of assets that are launched without a job


# Of the last run of this process: its plan by the id of its snapshot, and its start by the run's id.
_plans: dict[str, Plan] = {}
_run_starts: dict[str, datetime] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One attempt at a Dagster step.

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
        last_materialization: Returns the metadata and the time of an asset's last materialization.
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
    last_materialization: Callable[[dg.AssetKey], LastMaterialization] = field(
        default=lambda _: ({}, 0.0), repr=False, compare=False
    )
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
    key = context.get_step_execution_context().step.key
    failed_run_id = _failed_run_id(context, key)
    return Step(
        run_id=context.run_id,
        job_name=context.job_name,
        key=key,
        run_started_at=_run_start(context),
        attempt=context.retry_number,
        run_steps=read_plan(context).to_execute,
        tags=tags,
        partitions=_partitions(context),
        window=_window(context),
        has_retries=bool(context.get_step_execution_context().op_retry_policy),
        parent_run_id=context.run.parent_run_id,
        failed_run_id=failed_run_id,
        needed_outputs=frozenset(_needed_outputs(key, _plan(context, context.run)) if failed_run_id else ()),
        traceparent=tags.get(TRACEPARENT_TAG) or os.environ.get(TRACEPARENT),
        last_materialization=partial(_last_materialization, context.instance),
        is_running=partial(is_running, context.instance),
    )


@dataclass(frozen=True, slots=True)
class Plan:
    """The plan of a run.

    Attributes:
        to_execute: Keys of the steps that the run executes.
        upstream: Step key -> keys of the steps that it waits for.
        with_dbt: Keys of the steps that build dbt's nodes.
    """

    to_execute: frozenset[str] = frozenset()
    upstream: Mapping[str, set[str]] = field(default_factory=dict)
    with_dbt: frozenset[str] = frozenset()

    @property
    def keys(self) -> set[str]:
        """Return the keys of all steps."""
        return set(self.upstream)

    @property
    def is_dynamic(self) -> bool:
        """Return whether steps depend on how many outputs another step yields."""
        return any(UNRESOLVED in key for key in self.upstream)

    def resolved(self, mapping_keys: Mapping[str, set[str]]) -> Plan:
        """Return the plan with the steps that dynamic outputs have led to, instead of one step for all of them.

        Args:
            mapping_keys: Step key -> keys of the outputs that it has yielded.
        """
        steps = {key: self._resolve(key, mapping_keys) for key in self.upstream}
        upstream = {
            resolved: {above for name in names for above in _matching(resolved, steps.get(name, {name}))}
            for key, names in self.upstream.items()
            for resolved in steps[key]
        }
        to_execute = {resolved for key in self.to_execute for resolved in steps.get(key, {key})}
        return Plan(frozenset(to_execute), upstream, self.with_dbt)

    def _resolve(self, key: str, mapping_keys: Mapping[str, set[str]]) -> set[str]:
        if UNRESOLVED not in key:
            return {key}
        source = key
        while UNRESOLVED in source and self.upstream.get(source):
            # Of several inputs, one is dynamic.
            above = self.upstream[source]
            source = next((name for name in above if UNRESOLVED in name or name in mapping_keys), min(above))
        return {key.replace(UNRESOLVED, f"[{mapping_key}]") for mapping_key in mapping_keys.get(source, ())} or {key}

    @classmethod
    def of(cls, snapshot: Any) -> Plan:
        """Return the plan that Dagster's snapshot contains."""
        return cls(
            frozenset(snapshot.step_keys_to_execute),
            {step.key: {key for put in step.inputs for key in put.upstream_step_keys} for step in snapshot.steps},
            frozenset(step.key for step in snapshot.steps if any(tag.startswith(DBT_TAG) for tag in step.tags or ())),
        )


def _matching(key: str, above: set[str]) -> set[str]:
    """Return those of the steps above that a step waits for: with a mapping key, only those with the same or none."""
    _, _, mapping_key = key.partition("[")
    return {name for name in above if not mapping_key or "[" not in name or name.endswith(f"[{mapping_key}")}


def read_plan(context: Context) -> Plan:
    """Return the plan of the context's run, which is read once per process; an empty one in a test without a plan."""
    snapshot_id = context.run.execution_plan_snapshot_id
    if not snapshot_id:
        return Plan()
    if snapshot_id not in _plans:
        _plans.clear()
        _plans[snapshot_id] = Plan.of(context.instance.get_execution_plan_snapshot(snapshot_id))
    return _plans[snapshot_id]


def _run_start(context: Context) -> datetime:
    """Return the start of the context's run, which is read once per process."""
    if context.run_id not in _run_starts:
        record = context.instance.get_run_record_by_id(context.run_id)
        if record is None or not record.start_time:
            return datetime.now(UTC)
        _run_starts.clear()
        _run_starts[context.run_id] = datetime.fromtimestamp(record.start_time, UTC)
    return _run_starts[context.run_id]


def _last_materialization(instance: dg.DagsterInstance, key: dg.AssetKey) -> LastMaterialization:
    event = instance.get_latest_materialization_event(key)
    materialization = event.asset_materialization if event else None
    return (materialization.metadata, event.timestamp) if event and materialization else ({}, 0.0)


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


def _failed_run_id(context: Context, key: str) -> str | None:
    parent = context.run.parent_run_id
    if context.run.tags.get(FROM_FAILURE_TAG) != "true" or parent is None:
        return None
    run = context.instance.get_run_by_id(parent)
    before, plan = _plan(context, run) if run else None, _plan(context, context.run)
    return parent if before and plan and _assets(key, plan) <= _assets(key, before) else None


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
