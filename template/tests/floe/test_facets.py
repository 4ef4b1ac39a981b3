"""The facets of each kind of event, which `facets.py` lists, and the content of each facet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .facets import CONTENTS, FACETS, Facets
from .package import settings
from .runs import Sent

# Facets with a test of their own in test_events.py.
SEEN_ELSEWHERE = {"columnLineage", "schema", "sql"}
# Facets that only the end of a node has.
ONLY_AT_END = {"errorMessage", "externalQuery", "extractionError", "test"}


def parts(event: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the facets of an event by its part; those of several inputs together.

    A tag of OpenLineage's client, which names its version, is not looked at.
    """
    facets: dict[str, dict[str, Any]] = {"run": event["run"].get("facets", {}), "job": event["job"].get("facets", {})}
    for side in ("input", "output"):
        for dataset in event[f"{side}s"]:
            facets.setdefault(side, {}).update(dataset.get("facets", {}))
            facets.setdefault(f"result of {side}", {}).update(dataset.get(f"{side}Facets", {}))
    run_tags = facets["run"].get("tags", {}).get("tags", [])
    if own_tags := [tag for tag in run_tags if tag["source"] != "OPENLINEAGE_CLIENT"]:
        facets["run"] = {**facets["run"], "tags": {**facets["run"]["tags"], "tags": own_tags}}
    else:
        facets["run"] = {name: facet for name, facet in facets["run"].items() if name != "tags"}
    return {part: of_part for part, of_part in facets.items() if of_part}


def by_name(sent: Sent) -> dict[str, dict[str, dict[str, Any]]]:
    """Return the facets of all events, by the event's name and its part."""
    return {f"{event['job']['name']} {event['eventType']}": parts(event) for event in sent.events}


def bare(content: Any) -> Any:
    """Return the content of a facet without what is empty, and without where it comes from."""
    if isinstance(content, dict):
        cleaned = {key: bare(value) for key, value in content.items() if not key.startswith("_")}
        return {key: value for key, value in cleaned.items() if value not in ({}, [], None)}
    return [bare(value) for value in content] if isinstance(content, list) else content


def differences(event: str, sent: Mapping[str, Mapping[str, Any]], wanted: Facets) -> list[str]:
    """Return a line for each facet of an event that is missing or not wanted."""
    lines = []
    for part in sorted({*sent, *wanted}):
        has, wants = set(sent.get(part, {})), set(wanted.get(part, "").split())
        lines += [f"{event}: the {part} has no {name}" for name in sorted(wants - has)]
        lines += [f"{event}: the {part} has {name}, which facets.py does not list" for name in sorted(has - wants)]
    return lines


def test_facets(sent_in_full: Sent) -> None:
    """Each kind of event has all its facets, and no other."""
    sent = by_name(sent_in_full)
    lines = [line for event, wanted in FACETS.items() for line in differences(event, sent[event], wanted)]

    assert not lines, "\n".join(lines)


def test_start(sent_in_full: Sent) -> None:
    """The START of a node has the facets of its end that do not depend on it; nothing is said of its tables."""
    sent = by_name(sent_in_full)
    ends = {event.partition(" ")[0]: event for event in sent if not event.endswith(" START")}
    lines = []
    for job, end in ends.items():
        wanted = {part: " ".join({*sent[end][part]} - ONLY_AT_END) for part in ("run", "job")}
        lines += differences(f"{job} START", sent[f"{job} START"], wanted)

    assert not lines, "\n".join(lines)


def test_contents(sent_in_full: Sent) -> None:
    """Each facet says what it should."""
    sent = by_name(sent_in_full)
    lines = [
        f"{event}: {facet} of the {part} is {content}, not {wanted}"
        for (event, part, facet), wanted in CONTENTS.items()
        if (content := bare(sent[event].get(part, {}).get(facet))) != wanted
    ]

    assert not lines, "\n".join(lines)


def test_all_listed() -> None:
    """No facet is listed in `FACETS` of which `CONTENTS` does not say what it contains."""
    listed = {(part, name) for event in FACETS.values() for part, facets in event.items() for name in facets.split()}
    known = {(part, name) for _, part, name in CONTENTS}
    known |= {("input", name) for part, name in known if part == "output"}

    assert [(part, name) for part, name in sorted(listed - known) if name not in SEEN_ELSEWHERE] == []


def test_producer(sent_in_full: Sent) -> None:
    """Each event and each facet says who has made it, and each facet where its schema is."""
    facets = {
        (event, name): facet
        for event, of_event in by_name(sent_in_full).items()
        for of_part in of_event.values()
        for name, facet in of_part.items()
    }

    assert {event["producer"] for event in sent_in_full.events} == {settings.producer}
    assert [key for key, facet in facets.items() if not facet["_schemaURL"].startswith("https://")] == []
    assert [key for key, facet in facets.items() if key[1] != "tags" and facet["_producer"] != settings.producer] == []
