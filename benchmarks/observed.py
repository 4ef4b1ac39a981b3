"""The cost of a rendered project with both endpoints live, compared with the same dbt project on stock dagster-dbt.

`dg launch --assets '*'` runs both. The manifest, dbt's partial parse and the column lineage of the previous run already
exist, except in the row "cold", which has no column lineage. The warehouse and Dagster's history are empty.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks import endpoint
from benchmarks.launch import Side, same
from benchmarks.measure import RefusedError, alternate, compare
from benchmarks.projects import fetching, observed_project, stock_project

VARIANTS: Mapping[str, tuple[str, ...]] = {
    "": (),
    "cold": (),
    "row counts": ("fetch_row_counts",),
    "column metadata": ("fetch_column_metadata",),
}
"""What both sides fetch besides."""
# Tables: variant: repeats.
PLAN: Mapping[int, Mapping[str, int]] = {
    100: {"": 3, "row counts": 1, "column metadata": 1},
    400: {"": 3, "cold": 1, "row counts": 1, "column metadata": 1},
    1000: {"": 2},
}
QUICK = {100: {"": 2, "row counts": 1, "column metadata": 1, "cold": 1}}
KEPT_COLUMNS = ".floe/columns.json"


def sides(root: Path, tables: int, url: str) -> dict[str, Side]:
    """Make both projects, with what each keeps between runs."""
    observed = observed_project(root / f"observed-{tables}", tables)
    stock = stock_project(root / f"stock-{tables}", tables, observed / "profiles")
    variables = {"OPENLINEAGE_URL": url, "OTEL_EXPORTER_OTLP_ENDPOINT": url}
    made = {"stock": Side(stock), "observed": Side(observed, variables=variables)}
    for side in made.values():
        side.parse()
    made["observed"]()  # keeps column lineage
    return made


def measure(made: Mapping[str, Side], live: endpoint.Endpoint, repeats: int) -> dict[str, Any]:
    """Run both sides in turn and compare them.

    Raises:
        RefusedError: They have not built the same, or the endpoint has not been told of every node.
    """
    live.taken()
    found = alternate(made, repeats)
    events, spans = live.taken()
    nodes = len(same(made["stock"].built, made["observed"].built).nodes)
    if len(events) < 2 * nodes * repeats or spans < nodes * repeats:
        raise RefusedError(f"{len(events)} events and {spans} spans have arrived of {repeats} runs of {nodes} nodes")
    told = compare(found, "stock")
    per_run = {"events_a_run": len(events) // repeats, "spans_a_run": spans // repeats}
    more = told["more"]["observed"]["cpu_s"] / nodes
    return {"nodes": nodes, **per_run, **told, "cpu_ms_a_node": round(1000 * more, 2)}


def benchmark(quick: bool) -> dict[str, Any]:
    """Return the figures of all sizes and variants; `quick` takes the smallest alone."""
    rows: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder, endpoint.healthy() as live:
        for tables, variants in (QUICK if quick else PLAN).items():
            made = sides(Path(folder), tables, live.url)
            for variant, repeats in variants.items():
                for side in made.values():
                    fetching(side.project, *VARIANTS[variant])
                made["observed"].forget = (KEPT_COLUMNS,) if variant == "cold" else ()
                name = f"{tables} {variant}".strip()
                rows[name] = {"tables": tables, **measure(made, live, repeats)}
                print(f"  {name}: {rows[name]['ratio']['observed']}", file=sys.stderr, flush=True)
            for side in made.values():
                shutil.rmtree(side.project)
    return rows


def main() -> None:
    """Print the figures of one size."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tables", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--keep", type=Path, help="leave both projects in this folder, which must not exist")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, endpoint.healthy() as live:
        made = sides(given.keep or Path(folder), given.tables, live.url)
        print(json.dumps(measure(made, live, given.repeats), indent=2))


if __name__ == "__main__":
    main()
