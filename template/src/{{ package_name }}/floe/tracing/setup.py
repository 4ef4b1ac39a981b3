"""What Dagster knows of a step, and the environment of the process -> what its spans and metrics say of both.

The rim of the pure modules: here the environment and Dagster's instance are read.
"""

from __future__ import annotations

import os
from collections import Counter

import dagster as dg
from opentelemetry.sdk.resources import Resource

from ..settings import Settings
from ..step import run_started_at
from .spans import Step

# A tag of a Dagster run, and the variable of its process, that name the trace which it was started from.
TRACEPARENT_TAG = "traceparent"
TRACEPARENT = "TRACEPARENT"


# How many dbt commands each attempt at a step has run in this process.
_calls: Counter[tuple[str, str, int]] = Counter()


def step_of(context: dg.AssetExecutionContext) -> Step:
    """Return what spans are to know of the step that runs dbt."""
    step_key = context.get_step_execution_context().step.key
    attempt = (context.run_id, step_key, context.retry_number)
    _calls[attempt] += 1
    said = {
        "dagster.run_id": context.run_id,
        "dagster.job.name": context.job_name,
        "dagster.retry_number": context.retry_number,
    }
    if context.has_partition_key:
        said["dagster.partition_key"] = context.partition_key
    return Step(
        run_id=context.run_id,
        job_name=context.job_name,
        key=step_key,
        attempt=context.retry_number,
        call=_calls[attempt] - 1,
        run_started_at=run_started_at(context),
        attributes=said,
        traceparent=context.run.tags.get(TRACEPARENT_TAG) or os.environ.get(TRACEPARENT),
    )


def resource_of(settings: Settings) -> Resource:
    """Return who sends: the service, its environment, and what OTEL_RESOURCE_ATTRIBUTES adds or says otherwise."""
    told = {
        name: value
        for name, value in Resource.create().attributes.items()
        if not (name == "service.name" and str(value).startswith("unknown_service"))
    }
    own = {"service.name": settings.name, "deployment.environment.name": settings.dbt_target}
    return Resource({**own, **told})
