"""The cost and facts of other emitters on the same dbt project: cost over the bare run, facts right and wrong.

Each emitter has its own environment, at the version pinned in pyproject.toml, with the same Dagster and dbt as the
rest. dbt-ol is compared with `dbt build`, all others with stock dagster-dbt. All send to the same receiver over HTTP.
The dbt project has tables, a seed, a snapshot, a source, a view and ephemeral models. One table fails, two are skipped
because of it, and one test fails.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import replace
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from benchmarks import endpoint, facts
from benchmarks.launch import Side, same
from benchmarks.measure import alternate, compare
from benchmarks.projects import MISTAKES, NAME, OTHERS, observed_project, stock_project
from tools.rendering import REPOSITORY

CACHE = REPOSITORY / ".nox" / "bench-peers"
COMMON = ("dagster", "dagster-dbt", "dagster-dg-cli", "dbt-core", "dbt-duckdb")
DBT = ("build", "--project-dir", "transform", "--profiles-dir", "profiles", "--target", "local")
TABLES, REPEATS = 100, 2

# As its page says under "Mechanism A": each event is sent as Dagster stores it.
STORAGE = """
event_log_storage:
  module: dagster_openlineage
  class: OpenLineageEventLogStorage
  config:
    wrapped:
      module: dagster._core.storage.event_log
      class: SqliteEventLogStorage
      config: {base_dir: "{home}/history/runs"}
    namespace: bench
"""


def requirements(peer: str) -> list[str]:
    """Return what pyproject.toml pins for a peer."""
    groups = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["dependency-groups"]
    pinned: list[str] = groups[f"peer-{peer}"]
    return pinned


def environment(peer: str, *others: str) -> Path:
    """Install a peer in an environment of its own unless it is there; return the folder of its commands.

    What else it needs comes in the versions of the environment that this runs in.
    """
    wanted = [*requirements(peer), *others]
    constraints = "".join(sorted(f"{each.name}=={each.version}\n" for each in distributions()))
    folder = CACHE / peer
    stamp = folder / "wanted"
    if not stamp.is_file() or stamp.read_text() != f"{wanted}\n{constraints}":
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        limits = folder / "constraints.txt"
        limits.write_text(constraints)
        python = folder / "venv" / "bin" / "python"
        for command in (
            ("uv", "venv", "--quiet", "--python", sys.executable, str(folder / "venv")),
            (
                "uv",
                "pip",
                "install",
                "--quiet",
                "--compile-bytecode",
                "--python",
                str(python),
                "-c",
                str(limits),
                *wanted,
            ),
        ):
            subprocess.run(command, check=True)
        stamp.write_text(f"{wanted}\n{constraints}")
    return folder / "venv" / "bin"


def traced(project: Path) -> Path:
    """Decorate the assets of a stock project as the page of dagster-otel says."""
    file = project / "src" / NAME / "defs" / "dbt.py"
    text = file.read_text().replace(")\ndef dbt_models", ")\n@traced_dbt()\ndef dbt_models")
    file.write_text(f"from dagster_otel.dbt import traced_dbt\n{text}")
    return project


def sides(root: Path, tables: int, url: str) -> dict[str, dict[str, Side]]:
    """Make a project for each, by what it is set beside; the first of each group is the bare run."""
    others = MISTAKES | OTHERS
    observed = observed_project(root / "floe", tables, others)

    def stock(name: str) -> Path:
        return stock_project(root / name, tables, observed / "profiles", others)

    lineage = {"OPENLINEAGE_URL": url, "OPENLINEAGE_NAMESPACE": NAME}
    traces = {"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}
    dbt_ol = environment("dbt-ol", *COMMON[3:])
    plain = Side(stock("dbt"), ("dbt", *DBT), bin=dbt_ol, exit_code=1)
    ol = ("dbt-ol", *DBT)
    found = {
        "dbt build": {
            "dbt": plain,
            "dbt-ol": replace(plain, project=stock("dbt-ol"), command=ol, variables=lineage),
            "dbt-ol --consume-structured-logs": replace(
                plain, project=stock("dbt-ol-logs"), command=(*ol, "--consume-structured-logs"), variables=lineage
            ),
        },
        "dg launch": {
            "dagster-dbt": Side(stock("stock"), exit_code=1),
            "floe": Side(observed, variables=lineage | traces, exit_code=1),
            "dagster-openlineage": Side(
                stock("dagster-openlineage"),
                variables=lineage,
                instance=STORAGE,
                bin=environment("dagster-openlineage", *COMMON),
                exit_code=1,
            ),
            "dagster-otel": Side(
                traced(stock("dagster-otel")),
                variables=traces,
                bin=environment("dagster-otel", *COMMON),
                exit_code=1,
            ),
        },
    }
    for group in found.values():
        for side in group.values():
            side.parse()
    found["dg launch"]["floe"]()  # keeps column lineage
    return found


def measure(root: Path, tables: int, repeats: int) -> dict[str, Any]:
    """Run all in turn and count what has arrived of each at its last run."""
    rows: dict[str, Any] = {}
    with endpoint.healthy() as live:
        for base, group in sides(root, tables, live.url).items():
            delivered: dict[str, tuple[list[facts.Event], int]] = {}

            def taking(name: str, side: Side, delivered: dict[str, tuple[list[facts.Event], int]] = delivered) -> Any:
                def once() -> Any:
                    live.taken()
                    cost = side()
                    delivered[name] = live.taken()
                    return cost

                return once

            bare = next(iter(group))
            compared = compare(alternate({name: taking(name, side) for name, side in group.items()}, repeats), bare)
            same(*(side.built for side in group.values()))
            rows[base] = {"tables": tables, "bare": bare, **compared, "facts": {}}
            for name, (events, spans) in delivered.items():
                manifest = group[name].project / "transform" / "target" / "manifest.json"
                if name != bare:
                    rows[base]["facts"][name] = {**facts.count(events, manifest), "spans": spans}
    return rows


def benchmark(quick: bool) -> dict[str, Any]:
    """Return the figures and facts of each."""
    with tempfile.TemporaryDirectory() as folder:
        return measure(Path(folder), *((50, 1) if quick else (TABLES, REPEATS)))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(Path(folder), int(sys.argv[1]), int(sys.argv[2])), indent=2))
