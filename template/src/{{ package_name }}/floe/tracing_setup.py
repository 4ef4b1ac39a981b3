"""What Dagster knows of a step, and the environment of the process -> what its spans and metrics say of both.

The rim of the pure modules: here the environment and Dagster's instance are read.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime

import dagster as dg
from opentelemetry.sdk.resources import Resource

from .settings import Settings
from .tracing import Step

# A tag of a Dagster run, and the variable of its process, that name the trace which it was started from.
TRACEPARENT_TAG = "traceparent"
TRACEPARENT = "TRACEPARENT"


def step_of(context: dg.AssetExecutionContext) -> Step:
    """Return what spans are to know of the step that runs dbt."""
    said = {
        "dagster.run_id": context.run_id,
        "dagster.job.name": context.job_name,
        "dagster.retry_number": context.retry_number,
    }
    if context.has_partition_key:
        said["dagster.partition_key"] = context.partition_key
    record = context.instance.get_run_record_by_id(context.run_id)
    started = record.start_time if record else None
    return Step(
        run_id=context.run_id,
        job_name=context.job_name,
        key=context.get_step_execution_context().step.key,
        run_started_at=datetime.fromtimestamp(started, UTC) if started else datetime.now(UTC),
        attributes=said,
        traceparent=context.run.tags.get(TRACEPARENT_TAG) or os.environ.get(TRACEPARENT),
    )


def ends_run(context: dg.AssetExecutionContext) -> bool:
    """Say whether no other step of the run is left, as far as its event log tells."""
    snapshot = context.run.execution_plan_snapshot_id
    if snapshot is None:
        return True
    steps = set(context.instance.get_execution_plan_snapshot(snapshot).step_keys_to_execute)
    ended = {stats.step_key for stats in context.instance.get_run_step_stats(context.run_id) if stats.end_time}
    return steps - ended <= {context.get_step_execution_context().step.key}


def resource_of(settings: Settings) -> Resource:
    """Return who sends: the service, its environment, and what OTEL_RESOURCE_ATTRIBUTES adds or says otherwise."""
    told = {
        name: value
        for name, value in Resource.create().attributes.items()
        if not (name == "service.name" and str(value).startswith("unknown_service"))
    }
    own = {"service.name": settings.name, "deployment.environment.name": settings.dbt_target}
    return Resource({**own, **told})
