"""Measured builds of a project, and the nodes that each built, on which two sides must agree."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.measure import Cost, RefusedError, run

BIN = Path(sys.executable).parent
LAUNCH = ("dg", "launch", "--assets", "*")
LAST_LINES = 15
OWN = ("DAGSTER", "DBT_", "DUCKDB", "FLOE", "NOX", "OPENLINEAGE", "OTEL", "PYTHON", "VIRTUAL_ENV")


@dataclass(frozen=True, slots=True)
class Built:
    """What a run did: the status of each dbt node, and how many events of each kind Dagster has recorded."""

    nodes: Mapping[str, str]
    events: Mapping[str, int]


@dataclass
class Side:
    """A way to build a project: the command, its environment, and what it built last."""

    project: Path
    command: Sequence[str] = LAUNCH
    variables: Mapping[str, str] = field(default_factory=dict)
    bin: Path = BIN
    forget: Sequence[str] = ()
    """Patterns of files of the project that are deleted before each build."""
    instance: str = ""
    """What dagster.yaml says besides; `{home}` stands for its folder."""
    exit_code: int = 0
    """What a build ends with."""
    built: Built | None = None

    def __call__(self) -> Cost:
        """Build everything on an empty warehouse, with an empty Dagster instance.

        Raises:
            RefusedError: The command has failed, or has built something else than the time before.
        """
        home, target = self.project / "dagster-home", self.project / "transform" / "target"
        shutil.rmtree(home, ignore_errors=True)
        for results in target.glob("*/run_results.json"):  # dagster-dbt gives each run a folder
            shutil.rmtree(results.parent)
        data = self.project / "local"
        data.mkdir(exist_ok=True)
        forgotten = (file for pattern in self.forget for file in self.project.glob(pattern))
        for file in [target / "run_results.json", *data.glob("*.duckdb*"), *forgotten]:
            file.unlink(missing_ok=True)
        cost = self.run(*self.command, exit_code=self.exit_code)
        before, self.built = self.built, built(target, home)
        if before:
            same(before, self.built)
        return cost

    def parse(self) -> None:
        """Make the manifest that a code location is loaded from, and dbt's own note of what it has parsed."""
        self.run("dbt", "parse", "--project-dir", "transform", "--profiles-dir", "profiles", "--target", "local")

    def run(self, name: str, *arguments: str, exit_code: int = 0) -> Cost:
        """Run a command of the side's environment in its project.

        Raises:
            RefusedError: It has ended with another code.
        """
        home = self.project / "dagster-home"
        home.mkdir(exist_ok=True)
        (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n" + self.instance.replace("{home}", str(home)))
        log = self.project.with_name(f"{self.project.name}.log")
        cost, code = run((self.bin / name, *arguments), self.project, environment(self), log)
        if code != exit_code:
            last = "\n".join(log.read_text(errors="replace").splitlines()[-LAST_LINES:])
            raise RefusedError(f"{name} in {self.project.name} has ended with {code}:\n{last}")
        return cost


def environment(side: Side) -> dict[str, str]:
    """Return all variables that a side gets: the same for each, but for its own."""
    return {
        **kept(side.bin),
        "PYTHONPATH": str(side.project / "src"),
        "DAGSTER_HOME": str(side.project / "dagster-home"),
        "DO_NOT_TRACK": "1",
        "DBT_TARGET": "local",
        "DBT_TARGET_PATH": str(side.project / "transform" / "target"),
        "DUCKDB_PATH": str(side.project / "local" / "warehouse.duckdb"),
        **side.variables,
    }


def kept(first: Path = BIN) -> dict[str, str]:
    """Return this process's environment without what a side may set; the commands in `first` come before all others."""
    found = {name: value for name, value in os.environ.items() if not name.startswith(OWN)}
    return found | {"PATH": f"{first}{os.pathsep}{os.environ['PATH']}"}


def built(target: Path, home: Path) -> Built:
    """Read from dbt's results and from Dagster's event log what a run has done."""
    files = [*target.glob("*/run_results.json"), *target.glob("run_results.json")]
    if len(files) != 1:
        raise RefusedError(f"{len(files)} run_results.json under {target}, not one")
    results = json.loads(files[0].read_bytes())["results"]
    return Built({each["unique_id"]: each["status"] for each in results}, _recorded(home))


def _recorded(home: Path) -> dict[str, int]:
    found = Counter[str]()
    for file in (home / "history" / "runs").glob("*-*.db"):  # one for each run, named after its id
        with closing(sqlite3.connect(file)) as log:
            for kind, entry in log.execute("select dagster_event_type, event from event_logs"):
                if kind == "ASSET_MATERIALIZATION":
                    found[kind] += 1
                elif kind == "ASSET_CHECK_EVALUATION":
                    passed = json.loads(entry)["dagster_event"]["event_specific_data"]["success"]
                    found[f"{kind} {'passed' if passed else 'failed'}"] += 1
    return dict(found)


def same(first: Built | None, *others: Built | None) -> Built:
    """Refuse to go on unless all have built the same nodes with the same statuses; return what they have built.

    Raises:
        RefusedError: They have not; the message names up to three nodes.
    """
    if first is None or not first.nodes:
        raise RefusedError("a side has built nothing")
    for other in others:
        if other is None or not other.nodes:
            raise RefusedError("a side has built nothing")
        different = sorted(dict(first.nodes.items() ^ other.nodes.items()))
        if different:
            shown = "; ".join(f"{key}: {first.nodes.get(key)} / {other.nodes.get(key)}" for key in different[:3])
            raise RefusedError(f"not the same nodes: {len(different)} differ, such as {shown}")
        if first.events != other.events:
            raise RefusedError(f"not the same in Dagster: {first.events} / {other.events}")
    return first
