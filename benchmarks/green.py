"""The way from nothing to a green run: commands typed, files edited by hand, and seconds with warm caches.

The comparison uses `create-dagster project`, `dbt init` and dagster-dbt's component. They produce dbt's starter project
on DuckDB, with its nodes as assets and checks. They do not include production profiles, lineage, tracing, CI or tests,
and the work to add these is not counted. A script makes the edits, so they take no time.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.launch import kept
from benchmarks.measure import Cost, RefusedError, alternate, compare, run
from benchmarks.peers import requirements
from benchmarks.rendering import committed
from tools.rendering import snapshot

REPEATS = 2
SHOWN = "gh:org/floe-template"  # a clone of it on this machine is what is copied
LAUNCH = "uv run dg launch --assets '*'"
GREEN = re.compile(r"PASS=([1-9]\d*) WARN=0 ERROR=0 SKIP=0")


@dataclass(frozen=True, slots=True)
class Edit:
    """A file that is edited by hand: what stands there and what it becomes; a new file has nothing before."""

    file: str
    before: str
    after: str


OURS: tuple[str | Edit, ...] = ("uvx copier copy --quiet --defaults {template} .", "uv sync --quiet", LAUNCH)
THEIRS: tuple[str | Edit, ...] = (
    f"uvx {requirements('create-dagster')[0]} project . --uv-sync",
    'uv add --quiet dagster-dbt "dbt-core<1.12" dbt-duckdb',
    "uv run dbt init shop --skip-profile-setup",
    Edit(
        "shop/profiles.yml",
        "",
        "shop:\n  target: dev\n  outputs:\n    dev:\n      type: duckdb\n      path: {folder}/warehouse.duckdb\n",
    ),
    # One of the starter project's own tests fails on the row that it makes.
    Edit("shop/models/example/my_first_dbt_model.sql", "-- where id is not null", "where id is not null"),
    "uv run dg scaffold defs dagster_dbt.DbtProjectComponent transform --project-path shop",
    LAUNCH,
)


def went(steps: tuple[str | Edit, ...], folder: Path, template: Path) -> tuple[Cost, int]:
    """Go through the steps in an empty folder; return what they cost and how many dbt nodes are green.

    Raises:
        RefusedError: A command fails, a file is not as the edit expects it, or the run is not green.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    log = folder.with_name(f"{folder.name}.log")
    home = folder.with_name("dagster-home")
    home.mkdir(exist_ok=True)
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    quiet = {"DO_NOT_TRACK": "1", "DAGSTER_HOME": str(home)}
    variables = kept() | quiet | {"DBT_PROFILES_DIR": str(folder.with_name("dbt"))}  # `dbt init` makes ~/.dbt otherwise
    costs = []
    for step in steps:
        if isinstance(step, Edit):
            file = folder / step.file
            text = file.read_text() if step.before else ""
            if step.before not in text:
                raise RefusedError(f"{step.file} does not say {step.before!r}")
            after = step.after.format(folder=folder)
            file.write_text(text.replace(step.before, after) if step.before else after)
            continue
        command = [part.format(template=template) for part in shlex.split(step)]
        cost, code = run(command, folder, variables, log)
        if code:
            raise RefusedError(f"{step} has ended with {code}:\n{log.read_text(errors='replace')[-1500:]}")
        costs.append(cost)
    green = GREEN.search(log.read_text(errors="replace"))
    if not green:
        raise RefusedError(f"{folder.name}: the run is not green")
    total = Cost(
        sum(each.wall_s for each in costs),
        sum(each.cpu_s for each in costs),
        max(each.memory_mb for each in costs),
        max(each.tree_mb for each in costs),
    )
    return total, int(green[1])


def measure(root: Path, repeats: int) -> dict[str, Any]:
    """Go both ways in turn, once unmeasured to warm uv's caches, and compare them."""
    template = committed(snapshot(root / "floe-template"))
    steps = {"floe": OURS, "create-dagster + dbt init": THEIRS}
    green: dict[str, int] = {}

    def way(name: str, folder: Path) -> Callable[[], Cost]:
        def once() -> Cost:
            cost, green[name] = went(steps[name], folder, template)
            return cost

        return once

    ways = {name: way(name, root / f"my-pipeline-{i}") for i, name in enumerate(steps)}
    alternate(ways, 1)
    found = compare(alternate(ways, repeats), "create-dagster + dbt init")
    did = {
        name: {
            "commands": [step.format(template=SHOWN) for step in each if isinstance(step, str)],
            "edits": [step.file for step in each if isinstance(step, Edit)],
            "dbt nodes green": green[name],
        }
        for name, each in steps.items()
    }
    return {**found, "did": did, "uv": _version()}


def _version() -> str:
    done = subprocess.run(("uv", "--version"), capture_output=True, text=True, check=True)
    return done.stdout.strip()


def benchmark(quick: bool) -> dict[str, Any]:
    """Return the figures."""
    with tempfile.TemporaryDirectory() as folder:
        return {"green": measure(Path(folder), 1 if quick else REPEATS)}
