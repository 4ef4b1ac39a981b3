"""Run all benchmarks, or those that are named: `python -m benchmarks [NAME …] [--quick]`.

A full run replaces the figures of its benchmarks in results.json and writes RESULTS.md from that file. `--quick` uses
small projects and few repeats, prints the tables and writes nothing.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks import peers, report
from benchmarks.measure import RefusedError

NAMES = ("observed", "peers", "dead", "load", "rendering", "green", "emitter")
HERE = Path(__file__).parent
RESULTS, TABLES = HERE / "results.json", HERE / "RESULTS.md"
PACKAGES = ("dagster", "dagster-dbt", "dbt-core", "dbt-duckdb", "duckdb", "openlineage-python", "opentelemetry-sdk")
OTHER_PACKAGES = ("sqlglot", "structlog", "copier")
PEERS = ("dbt-ol", "dagster-openlineage", "dagster-otel", "create-dagster")


def main() -> int:
    """Return 1 if a bound is broken, 2 if what was run cannot be compared."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").partition(":")[0])
    parser.add_argument("names", nargs="*", choices=[[], *NAMES], metavar="name", help=", ".join(NAMES))
    parser.add_argument("--quick", action="store_true", help="small, to try the harness: writes nothing")
    given = parser.parse_args()
    results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.is_file() and not given.quick else {}
    for name in given.names or NAMES:
        print(f"{datetime.now(UTC):%H:%M:%S} {name}", file=sys.stderr, flush=True)
        on = surroundings()
        try:
            rows = importlib.import_module(f"benchmarks.{name}").benchmark(given.quick)
        except RefusedError as error:
            print(f"refused: {error}", file=sys.stderr)
            return 2
        results[name] = {"on": on, "rows": rows}
        if not given.quick:  # after each: a later one may be refused
            RESULTS.write_text(json.dumps({key: results[key] for key in NAMES if key in results}, indent=1) + "\n")
            TABLES.write_text(report.markdown(results))
    if given.quick:
        print(report.markdown(results))
        return 0
    broken = [bound for bound in report.bounds(results) if not bound.holds]
    for bound in broken:
        print(f"broken: {bound}", file=sys.stderr)
    return int(bool(broken))


def surroundings() -> dict[str, Any]:
    """Return when and on what is measured, without anything that names the machine."""
    processor = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "unknown"
    )
    memory = next((int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), 0)
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": f"{processor}, {os.cpu_count()} cores, {round(memory / 2**20)} GB, {platform.system()}",
        "load_before": round(os.getloadavg()[0], 1),
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in (*PACKAGES, *OTHER_PACKAGES)}
        | dict(peers.requirements(name)[0].split("==") for name in PEERS),
    }


def _lines(file: str) -> list[str]:
    return Path(file).read_text().splitlines()


if __name__ == "__main__":
    sys.exit(main())
