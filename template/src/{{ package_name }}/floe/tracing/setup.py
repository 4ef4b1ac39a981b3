"""The environment of the process -> the resource that its spans and metrics belong to."""

from __future__ import annotations

from opentelemetry.sdk.resources import Resource

from ..settings import Settings


def resource_of(settings: Settings) -> Resource:
    """Return who sends: the service, its environment, and what OTEL_RESOURCE_ATTRIBUTES adds or says otherwise."""
    told = {
        name: value
        for name, value in Resource.create().attributes.items()
        if not (name == "service.name" and str(value).startswith("unknown_service"))
    }
    own = {"service.name": settings.name, "deployment.environment.name": settings.dbt_target}
    return Resource({**own, **told})
