"""OpenLineage's own dbt-ol 1.54, in both of its modes, beside ours: one project, one table.

    python -m benchmarks.compare_dbt_ol [--keep FOLDER]

The sample project gets a model that fails, one that is skipped for it, and a test that fails. Each emitter writes its
events to a file; they are then held against the specification, dbt's own results and the tables that there are.
CPU seconds are those of the emitter: of the whole command less the same command without lineage. Needs uv, and the
OpenLineage schemas beside the repository.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.lineage.spec import MISSING, SPEC, cycle_problems, schema_problems
from tests.rendering import render, snapshot

REQUIRED = "openlineage-dbt==1.54.0"
MISTAKES = {
    "models/marts/broken.sql": "select no_such_column from {{ ref('orders') }}\n",
    "models/marts/after_broken.sql": "select * from {{ ref('broken') }}\n",
    "tests/fails.sql": "select customer_id from {{ ref('customers') }}\n",
}
BUILD = ("build", "--project-dir", "dbt", "--profiles-dir", "dbt")

Event = dict[str, Any]


def main() -> int:
    """Run all and print the table; fail if ours claims anything wrong or lacks a facet that another has."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keep", type=Path, help="where to leave the project and the events")
    keep = parser.parse_args().keep
    if not SPEC.is_dir():
        print(MISSING)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        root = keep or Path(folder)
        return report(root, emitted(root))


def emitted(root: Path) -> dict[str, tuple[list[Event], float]]:
    """Return each emitter's events and CPU seconds."""
    project = render(snapshot(root / "template"), root / "project", project_name="shop")
    for file, text in MISTAKES.items():
        (project / "dbt" / file).write_text(text)
    bin_ = _installed(root, project)
    launch = ("uv", "run", "--no-sync", "dg", "launch", "--assets", "*")
    # Twice: the first parses the project, which dbt then keeps.
    _, plain = (_run(project, root, None, str(bin_ / "dbt"), *BUILD) for _ in range(2))
    _, stock = (_run(project, root, None, *launch) for _ in range(2))
    commands = {
        "dbt-ol": (plain, (str(bin_ / "dbt-ol"), *BUILD)),
        "dbt-ol --consume-structured-logs": (plain, (str(bin_ / "dbt-ol"), *BUILD, "--consume-structured-logs")),
        "floe": (stock, launch),
    }
    found = {}
    for name, (without, command) in commands.items():
        events = root / f"{name.replace(' ', '')}.ndjson"
        seconds = _run(project, root, events, *command) - without
        found[name] = ([json.loads(line) for line in events.read_text().splitlines()], seconds)
    return found


def _installed(root: Path, project: Path) -> Path:
    venv = root / "dbt-ol"
    for command in (
        ("uv", "sync", "--quiet"),
        ("uv", "venv", "--quiet", "--clear", str(venv)),
        ("uv", "pip", "install", "--quiet", "--python", str(venv), REQUIRED, "dbt-core>=1.11,<1.12", "dbt-duckdb"),
    ):
        subprocess.run(command, cwd=project, check=True)  # noqa: S603 - the commands above
    return venv / "bin"


def _run(project: Path, root: Path, events: Path | None, *command: str) -> float:
    """Run a build on an empty warehouse and return the CPU seconds of all its processes."""
    (root / "warehouse.duckdb").unlink(missing_ok=True)
    lineage = {"OPENLINEAGE_DISABLED": "true"}
    if events:
        events.unlink(missing_ok=True)
        lineage = {
            "OPENLINEAGE__TRANSPORT__TYPE": "file",
            "OPENLINEAGE__TRANSPORT__LOG_FILE_PATH": str(events),
            "OPENLINEAGE__TRANSPORT__APPEND": "true",
            "OPENLINEAGE_NAMESPACE": "shop",
        }
    environment = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"} | lineage
    # dbt-ol calls dbt by name; `uv run` puts the project's own first.
    environment["PATH"] = f"{root / 'dbt-ol' / 'bin'}:{environment['PATH']}"
    environment |= {"DUCKDB_PATH": str(root / "warehouse.duckdb"), "DBT_TARGET": "local", "DAGSTER_CLI_TELEMETRY": "0"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, check=False, text=True)  # noqa: S603 - as above
    (root / "last.log").write_text(done.stdout + done.stderr)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def report(root: Path, found: dict[str, tuple[list[Event], float]]) -> int:
    """Print the table; return 0 if ours has all that is right and nothing that is wrong."""
    truth = Truth(root / "project" / "dbt" / "target" / "manifest.json")
    rows: dict[str, Callable[[list[Event]], object]] = {
        "events": len,
        "runs": lambda events: len({event["run"]["runId"] for event in events}),
        "executed nodes told of": lambda events: f"{len(truth.told(events))} of {len(truth.executed)}",
        "datasets": lambda events: len(names(events)),
        "kinds of facets": lambda events: len(facets(events)),
        "columns with lineage": lambda events: len({*column_lineage(events)}),
        **{f"wrong: {kind}": count for kind, count in truth.wrong().items()},
    }
    print(f"{'':44}" + "".join(f"{name[:24]:>26}" for name in found))
    for row, count in rows.items():
        print(f"{row:44}" + "".join(f"{count(events)!s:>26}" for events, _ in found.values()))
    print(f"{'CPU seconds of the emitter':44}" + "".join(f"{seconds:26.1f}" for _, seconds in found.values()))
    ours = found.pop("floe")[0]
    wrong = sum(count(ours) for count in truth.wrong().values())
    lacking = {facet for events, _ in found.values() for facet in facets(events)} - facets(ours)
    print(f"facets of dbt-ol that ours lack: {', '.join(sorted(lacking)) or 'none'}")
    return int(bool(wrong or {each for each in lacking if not each.startswith("misplaced")}))


class Truth:
    """What the project's manifest says that there is."""

    def __init__(self, manifest: Path) -> None:
        told = json.loads(manifest.read_bytes())
        nodes = {**told["nodes"], **told["sources"], **told["unit_tests"]}
        built = {key for key, node in nodes.items() if node.get("config", {}).get("materialized") != "ephemeral"}
        self.executed = {key for key in built if not key.startswith("source.")}
        self._tables = {
            f"{node['database']}.{node['schema']}.{node.get('identifier') or node['alias']}".lower()
            for key, node in nodes.items()
            if key in built and key.partition(".")[0] in {"model", "seed", "snapshot", "source"}
        }

    def told(self, events: list[Event]) -> set[str]:
        """Return the executed nodes that have a run of their own."""
        named = {event["job"]["facets"].get("dbt_node", {}).get("unique_id") for event in events}
        return self.executed & (named | {event["job"]["name"] for event in events})

    def wrong(self) -> dict[str, Callable[[list[Event]], int]]:
        """Return what counts the wrong claims of each kind."""
        return {
            "not valid, or a facet out of place": lambda events: len(schema_problems(events)),
            "runs without one START and one end": lambda events: len(cycle_problems(events)),
            "datasets that do not exist": lambda events: len(
                {n for n in names(events) if n.lower() not in self._tables}
            ),
            "outputs of what failed or was skipped": failed_outputs,
            "failures without dbt's message": lambda events: sum(
                event["eventType"] == "FAIL" and "errorMessage" not in event["run"]["facets"] for event in events
            ),
            "column lineage of tables not read": lambda events: sum(
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
    failed = {event["run"]["runId"] for event in events if event["eventType"] in {"FAIL", "ABORT"}}
    return sum(len(event.get("outputs", [])) for event in events if event["run"]["runId"] in failed)


def column_lineage(events: list[Event]) -> Iterator[tuple[str, str]]:
    """Yield each column that has lineage, with a table that it is said to come from."""
    for event in events:
        for output in event.get("outputs", []):
            fields = (output.get("facets") or {}).get("columnLineage", {}).get("fields", {})
            for name, field in fields.items():
                yield from ((f"{output['name']}.{name}", each["name"]) for each in field["inputFields"])


if __name__ == "__main__":
    sys.exit(main())
