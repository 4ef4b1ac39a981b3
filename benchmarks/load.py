"""The time to load the code location in a fresh process, compared with stock dagster-dbt. The manifest already exists.

There are two measures. One is the whole of `dagster definitions validate`, which starts a code server like `dg dev`.
The other is taken inside a process that has already imported dagster and dagster-dbt: the time from importing the
project's definitions until all assets, checks, jobs and resources are resolved.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.launch import Side
from benchmarks.measure import Cost, RefusedError, alternate, compare
from benchmarks.projects import observed_project, stock_project

SIZES = {400: 5, 2000: 4}  # tables: repeats
LOAD = """
import json, resource, sys, time
import dagster as dg, dagster_dbt
import dagster._core.definitions.metadata.source_code, dagster.components
wall, cpu = time.perf_counter(), time.process_time()
from bench.definitions import defs
loaded = defs()
loaded.get_repository_def().load_all_definitions()
seconds = time.perf_counter() - wall, time.process_time() - cpu
graph = loaded.resolve_asset_graph()
keys = [*graph.get_all_asset_keys(), *graph.asset_check_keys]
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
json.dump({"cost": [*seconds, peak, peak], "keys": sorted(map(str, keys))}, open(sys.argv[1], "w"))
"""


class Within:
    """The load alone, measured by the process that does it."""

    def __init__(self, side: Side) -> None:
        self.side = side
        self.keys: list[str] = []

    def __call__(self) -> Cost:
        """Load once."""
        told = self.side.project / "told.json"
        self.side.run("python", "-c", LOAD, str(told))
        found = json.loads(told.read_bytes())
        self.keys = found["keys"]
        return Cost(*found["cost"])


def measure(root: Path, tables: int, repeats: int) -> dict[str, Any]:
    """Load both projects in turn and compare them.

    Raises:
        RefusedError: They have not the same assets and checks, or fewer than there are tables.
    """
    observed = Side(observed_project(root / f"observed-{tables}", tables))
    stock = Side(stock_project(root / f"stock-{tables}", tables, observed.project / "profiles"))
    stock.parse()
    shutil.copytree(stock.project / "transform" / "target", observed.project / "transform" / "target")
    within = {"stock": Within(stock), "observed": Within(observed)}
    loads = alternate(within, repeats)
    keys = [set(each.keys) for each in within.values()]
    if keys[0] != keys[1] or len(keys[0]) < tables:
        raise RefusedError(f"not the same assets and checks: {len(keys[0])} / {len(keys[1])} of {tables} tables")
    validate = ("dagster", "definitions", "validate", "-m", "bench.definitions")
    sides = {"stock": lambda: stock.run(*validate), "observed": lambda: observed.run(*validate)}
    shared = {"tables": tables, "assets_and_checks": len(keys[0])}
    return {
        f"{tables} load": {**shared, **compare(loads, "stock")},
        f"{tables} validate": {**shared, **compare(alternate(sides, repeats), "stock")},
    }


def benchmark(quick: bool) -> dict[str, Any]:
    """Return the figures of all sizes; `quick` takes a small one."""
    rows: dict[str, Any] = {}
    for tables, repeats in {100: 2}.items() if quick else SIZES.items():
        with tempfile.TemporaryDirectory() as folder:
            rows |= measure(Path(folder), tables, repeats)
    return rows
