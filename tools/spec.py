"""The OpenLineage specification as a check: run events -> their violations.

The schemas lie beside the repository, not in it; without them `problems` still checks what no schema says.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from functools import cache
from typing import Any
from urllib.parse import urlparse

from jsonschema import Draft202012Validator, FormatChecker
from referencing import Registry, Resource

from tools.rendering import REPOSITORY

SPEC = REPOSITORY.parent / "shared" / "openlineage-spec"
MISSING = f"the OpenLineage schemas are not at {SPEC.relative_to(REPOSITORY.parent)} beside the repository"
CORE = "https://openlineage.io/spec/2-0-2/OpenLineage.json"
TERMINAL = {"COMPLETE", "FAIL", "ABORT"}
# Keys of facets that the specification does not have.
CUSTOM = {
    "RunFacet": {"dbt_run", "dbt_version"},
    "JobFacet": {"dbt_node"},
    "DatasetFacet": {"dbt_model", "dbt_exposures", "floe_columnClassification"},
}

Event = dict[str, Any]


@cache
def registry() -> Registry[Any]:
    """Return the schemas by their ids."""
    files = [SPEC / "OpenLineage.json", *sorted((SPEC / "facets").glob("*.json"))]
    loaded = [json.loads(file.read_bytes()) for file in files]
    return Registry().with_resources([(schema["$id"], Resource.from_contents(schema)) for schema in loaded])


@cache
def validators() -> dict[str, dict[str, Any]]:
    """Return a validator for each standard facet, by the kind of its place and by its key."""
    found: dict[str, dict[str, Any]] = {}
    for file in sorted((SPEC / "facets").glob("*.json")):
        schema = json.loads(file.read_bytes())
        for key, reference in schema.get("properties", {}).items():
            definition = schema["$defs"].get(reference.get("$ref", "").rpartition("/")[2], {})
            if "allOf" not in definition:  # subset and lineage have several kinds; nothing here emits them
                continue
            kind = definition["allOf"][0]["$ref"].rpartition("/")[2]
            found.setdefault(kind, {})[key] = _validator({"$ref": f"{schema['$id']}{reference['$ref']}"})
    return found


def _validator(schema: dict[str, Any]) -> Any:
    return Draft202012Validator(schema, registry=registry(), format_checker=FormatChecker())


def problems(events: list[Event]) -> list[str]:
    """Return what is wrong with the events of whole runs, in their order."""
    return schema_problems(events) + cycle_problems(events) + claim_problems(events)


def schema_problems(events: list[Event]) -> list[str]:
    """Return what is wrong with each event by itself."""
    core = _validator({"$ref": f"{CORE}#/$defs/RunEvent"})
    found = []
    for event in events:
        place = f"{event.get('job', {}).get('name')} {event.get('eventType')}"
        found += [f"{place}: {error.json_path}: {error.message[:200]}" for error in core.iter_errors(event)]
        found += [] if _has_zone(event.get("eventTime", "")) else [f"{place}: eventTime has no zone"]
        for kind, facets in _places(event):
            found += [f"{place}: {problem}" for problem in _facet_problems(kind, facets)]
    return found


def _has_zone(time: str) -> bool:
    # JSON schema's date-time; its own check needs one more package.
    return "T" in time and datetime.fromisoformat(time).tzinfo is not None


def _places(event: Event) -> Iterator[tuple[str, dict[str, Any]]]:
    yield "RunFacet", event.get("run", {}).get("facets") or {}
    yield "JobFacet", event.get("job", {}).get("facets") or {}
    for dataset in event.get("inputs", []):
        yield "DatasetFacet", dataset.get("facets") or {}
        yield "InputDatasetFacet", dataset.get("inputFacets") or {}
    for dataset in event.get("outputs", []):
        yield "DatasetFacet", dataset.get("facets") or {}
        yield "OutputDatasetFacet", dataset.get("outputFacets") or {}


def _facet_problems(kind: str, facets: dict[str, Any]) -> Iterator[str]:
    for key, facet in facets.items():
        for field in ("_producer", "_schemaURL"):
            if not urlparse(facet.get(field, "")).scheme:
                yield f"{key} has no {field}"
        if validator := validators().get(kind, {}).get(key):
            yield from (f"{key}{error.json_path[1:]}: {error.message[:200]}" for error in validator.iter_errors(facet))
        elif key not in CUSTOM.get(kind, set()):
            yield f"{key} is no {kind}"


def cycle_problems(events: list[Event]) -> list[str]:
    """Return which runs do not have one START and then one terminal event, or lie outside of their parent's."""
    runs: dict[str, list[Event]] = {}
    for event in events:
        runs.setdefault(event["run"]["runId"], []).append(event)
    found = []
    for own in runs.values():
        kinds = [event["eventType"] for event in own]
        name = own[0]["job"]["name"]
        if len(kinds) != 2 or kinds[0] != "START" or kinds[1] not in TERMINAL:
            found.append(f"{name}: its events are {kinds}")
        elif own[0]["eventTime"] > own[1]["eventTime"]:
            found.append(f"{name}: ends before it starts")
        if len({event["job"]["name"] for event in own}) > 1:
            found.append(f"{name}: one run id, two jobs")
    return found


def claim_problems(events: list[Event]) -> list[str]:
    """Return what is said that cannot be so, though each event is valid."""
    found = []
    for event in events:
        name, outputs = event["job"]["name"], event.get("outputs", [])
        inputs = {dataset["name"] for dataset in event.get("inputs", [])}
        if outputs and event["eventType"] != "COMPLETE":
            found.append(f"{name}: claims an output at {event['eventType']}")
        if outputs and name.partition(".")[0] in {"test", "unit_test", "source"}:
            found.append(f"{name}: a check writes nothing")
        if len(inputs) < len(event.get("inputs", [])):
            found.append(f"{name}: an input stands twice")
        for output in outputs:
            lineage = output["facets"].get("columnLineage", {})
            fields = [each for field in lineage.get("fields", {}).values() for each in field["inputFields"]]
            found += [
                f"{name}: column lineage from {each['name']}, which is no input"
                for each in (*fields, *lineage.get("dataset", []))
                if each["name"] not in inputs
            ]
        if event["eventType"] == "FAIL" and "errorMessage" not in event["run"]["facets"]:
            found.append(f"{name}: fails without a message")
    return found
