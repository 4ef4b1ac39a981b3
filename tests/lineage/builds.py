"""Builds of small test projects with real dbt on DuckDB, and the OpenLineage events that the run would send."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.lineage.replay import of, replay

PROFILE = {
    "shop": {
        "target": "dev",
        "outputs": {
            name: {"type": "duckdb", "path": "warehouse.duckdb", "schema": name, "threads": 2}
            for name in ("dev", "prod")
        },
    }
}


@dataclass(frozen=True, slots=True)
class Build:
    """A dbt command that has ended, and the events of its run."""

    folder: Path
    target_path: Path
    output: str
    events: list[dict[str, Any]]

    @property
    def errors(self) -> list[str]:
        """Return what dbt has printed as an error."""
        raws = (json.loads(line) for line in self.output.splitlines() if line[:1] == "{")
        return [raw["info"]["msg"] for raw in raws if raw["info"]["level"] == "error"]

    def end(self, unique_id: str) -> dict[str, Any]:
        """Return the last event of a node's run."""
        return of(self.events, unique_id)[1]

    def inputs(self, unique_id: str) -> set[str]:
        """Return the names of the datasets that a node has read."""
        return {dataset["name"] for dataset in self.end(unique_id)["inputs"]}

    def output_facets(self, unique_id: str) -> dict[str, Any]:
        """Return the facets of the dataset that a node has written."""
        (written,) = self.end(unique_id)["outputs"]
        facets: dict[str, Any] = written["facets"]
        return facets

    def origins(self, unique_id: str) -> dict[str, set[tuple[str, str]]]:
        """Return the columns that a node has written, each with the tables and columns that it is made of."""
        fields = self.output_facets(unique_id)["columnLineage"]["fields"]
        return {
            name: {
                (origin["name"], origin["field"])
                for origin in field["inputFields"]
                if any(step["type"] == "DIRECT" for step in origin["transformations"])
            }
            for name, field in fields.items()
        }

    def schema(self, unique_id: str) -> list[str]:
        """Return the columns of what a node has written."""
        return [field["name"] for field in self.output_facets(unique_id)["schema"]["fields"]]

    def left_out(self, unique_id: str) -> list[str]:
        """Return what the end of a node's run says it could not tell."""
        facet = self.end(unique_id)["run"]["facets"].get("extractionError", {})
        return [error["errorMessage"] for error in facet.get("errors", [])]


def write_project(folder: Path, files: Mapping[str, str]) -> Path:
    """Write a dbt project with `files`, by path, and a DuckDB profile with the outputs `dev` and `prod`."""
    own = {
        "dbt_project.yml": "name: shop\nversion: '1.0'\nprofile: shop\n",
        "profiles.yml": yaml.safe_dump(PROFILE),
    }
    for name, text in (own | dict(files)).items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return folder


def build(folder: Path, *arguments: str, target_path: str = "target", **how: Any) -> Build:
    """Run a dbt command in a project of `write_project`, as dagster-dbt runs it; `how` is as for `replay`."""
    target = folder / target_path
    done = dbt(folder, *arguments, target=target)
    (target / "events.jsonl").write_text("".join(f"{line}\n" for line in done.stdout.splitlines() if line[:1] == "{"))
    finished = [line for line in (target / "dbt.log").read_text().splitlines() if '"NodeFinished"' in line]
    (target / "debug_log.jsonl").write_text("".join(f"{line}\n" for line in finished))
    return Build(folder, target, done.stdout + done.stderr, replay("duckdb", folder=target, **how))


def dbt(folder: Path, *arguments: str, target: Path) -> subprocess.CompletedProcess[str]:
    """Run a dbt command in a project of `write_project`, with its artifacts and its log in `target`."""
    flags = ["--log-format=json", "--log-level=info", "--log-level-file=debug", "--no-send-anonymous-usage-stats"]
    return subprocess.run(
        [Path(sys.executable).with_name("dbt"), *flags, *arguments, f"--target-path={target}", f"--log-path={target}"],
        cwd=folder,
        env=os.environ | {"DBT_PROFILES_DIR": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
