"""The facts in lineage events, checked against dbt's manifest and the specification: right ones and wrong ones."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tools.spec import SPEC, cycle_problems, schema_problems

Event = dict[str, Any]


def count(events: list[Event], manifest: Path) -> dict[str, Any]:
    """Return how many facts of each kind there are, and how many wrong ones.

    Two kinds of wrong ones are counted only where the schemas lie beside the repository.
    """
    truth = Truth(manifest)
    return {
        "events": len(events),
        "runs": len({event["run"]["runId"] for event in events}),
        "nodes reported": len(truth.told(events)),
        "nodes executed": len(truth.executed),
        "datasets": len(names(events)),
        "kinds of facets": len(facets(events)),
        "columns with lineage": len({*column_lineage(events)}),
        "wrong": {kind: counted(events) for kind, counted in truth.wrong().items()},
    }


class Truth:
    """What the project's manifest says that there is."""

    def __init__(self, manifest: Path) -> None:
        told = json.loads(manifest.read_bytes())
        nodes = {**told["nodes"], **told["sources"], **told["unit_tests"]}
        built = {key for key, node in nodes.items() if node.get("config", {}).get("materialized") != "ephemeral"}
        self.executed = {key for key in built if not key.startswith("source.")}
        self._by_name = {nodes[key]["name"]: key for key in self.executed}
        self._tables = {
            f"{node['database']}.{node['schema']}.{node.get('identifier') or node['alias']}".lower()
            for key, node in nodes.items()
            if key in built and key.partition(".")[0] in {"model", "seed", "snapshot", "source"}
        }

    def told(self, events: list[Event]) -> set[str]:
        """Return the executed nodes that have a run of their own."""
        named = {((event["job"].get("facets") or {}).get("dbt_node") or {}).get("unique_id") for event in events}
        jobs = {event["job"]["name"] for event in events}
        assets = {self._by_name.get(job.rpartition("/")[2].rpartition(".")[2]) for job in jobs}
        return self.executed & (named | jobs | assets)

    def wrong(self) -> dict[str, Callable[[list[Event]], int]]:
        """Return what counts the wrong claims of each kind."""
        return {
            **(
                {
                    "invalid events, or facets in the wrong place": _invalid,
                    "runs without exactly one START and one end": _cycles,
                }
                if SPEC.is_dir()
                else {}
            ),
            "datasets that do not exist": lambda events: len(
                {n for n in names(events) if n.lower() not in self._tables}
            ),
            "outputs of failed or skipped nodes": failed_outputs,
            "failures without dbt's message": lambda events: sum(
                event["eventType"] == "FAIL" and "errorMessage" not in event["run"]["facets"] for event in events
            ),
            "column lineage from tables that were not read": lambda events: sum(
                1 for _, origin in column_lineage(events) if origin.lower() not in self._tables
            ),
        }


def names(events: list[Event]) -> set[str]:
    """Return the names of the datasets."""
    return {each["name"] for event in events for side in ("inputs", "outputs") for each in event.get(side, [])}


def facets(events: list[Event]) -> set[str]:
    """Return the kinds of facets, by place and key; those out of place are marked."""
    found = set()
    for event in events:
        # What an emitter says of its own failures is no fact of the run.
        found |= {f"run.{key}" for key in event["run"].get("facets", {}) if key != "extractionError"}
        found |= {f"job.{key}" for key in event["job"].get("facets", {})}
        for side in ("inputs", "outputs"):
            for each in event.get(side, []):
                found |= {f"dataset.{key}" for key in each.get("facets") or {} if key != "dataQualityAssertions"}
                found |= {f"misplaced.{key}" for key in each.get("facets") or {} if key == "dataQualityAssertions"}
                found |= {f"{side}.{key}" for key in each.get(f"{side[:-1]}Facets") or {}}
    return found


def failed_outputs(events: list[Event]) -> int:
    """Return how many outputs are claimed by runs that failed, at their start or at their end."""
    failed = {_of(event) for event in events if event["eventType"] in {"FAIL", "ABORT"}}
    return sum(len(event.get("outputs", [])) for event in events if _of(event) in failed)


def _of(event: Event) -> tuple[str, str]:
    # A peer gives all its jobs one run id: they are told apart here.
    return event["run"]["runId"], event["job"]["name"]


def column_lineage(events: list[Event]) -> Iterator[tuple[str, str]]:
    """Yield each column that has lineage, with a table that it is said to come from."""
    for event in events:
        for output in event.get("outputs", []):
            fields = (output.get("facets") or {}).get("columnLineage", {}).get("fields", {})
            for name, field in fields.items():
                yield from ((f"{output['name']}.{name}", each["name"]) for each in field["inputFields"])


def _invalid(events: list[Event]) -> int:
    return len(schema_problems(events))


def _cycles(events: list[Event]) -> int:
    return len(cycle_problems(events))
