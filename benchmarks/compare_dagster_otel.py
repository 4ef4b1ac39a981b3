"""A comparison with dagster-otel 0.5: one project, one receiver, one table.

    python -m benchmarks.compare_dagster_otel [--keep FOLDER]

The sample project gets a failing model, a model that is skipped because of it, and a failing test. Dagster's
multiprocess executor runs both projects, which send OTLP over HTTP to a receiver on loopback. The spans are then
compared with dbt's manifest and run_results.json. Needs uv.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from pathlib import Path

from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tools import runs
from tools.rendering import render, snapshot
from tools.runs import Run, attributes

REQUIRED = "dagster-otel==0.5.1"
# What its documentation has an owner write.
THEIRS = """
from collections.abc import Iterator
from typing import Any

import dagster as dg
from dagster_dbt import DbtCliResource, dbt_assets
from dagster_otel.dbt import traced_dbt

from ..floe.dbt.prepare import load_manifest
from ..project import dbt_project


@dbt_assets(manifest=load_manifest(dbt_project), project=dbt_project)
@traced_dbt()
def dbt_models(context: dg.AssetExecutionContext, dbt: DbtCliResource) -> Iterator[Any]:
    yield from dbt.cli(["build"], context=context).stream()
"""


def main() -> int:
    """Run both and print the table; fail if ours is not complete, or lacks an attribute that theirs has."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keep", type=Path, help="where to leave the projects")
    keep = parser.parse_args().keep
    with tempfile.TemporaryDirectory() as folder:
        root = keep or Path(folder)
        rendered = render(snapshot(root / "template"), root / "rendered", project_name="pipeline")
        python = installed(root, rendered)
        found = {
            name: Told(
                runs.launch(
                    runs.copy(rendered, root / name, runs.MISTAKES, **modules),
                    config=runs.multiprocess("spawn"),
                    python=python,
                    PATH=f"{python.parent}:{os.environ['PATH']}",
                    OTEL_SERVICE_NAME="pipeline",
                )
            )
            for name, modules in {"dagster-otel": {"dbt": THEIRS}, "floe": {}}.items()
        }
        return report(found["dagster-otel"], found["floe"])


def installed(root: Path, rendered: Path) -> Path:
    """Return the Python of an environment with the project's dependencies and dagster-otel."""
    venv = root / "venv"
    pyproject = str(rendered / "pyproject.toml")
    for command in (
        ("uv", "venv", "--quiet", "--clear", str(venv)),
        ("uv", "pip", "install", "--quiet", "--python", str(venv), "-r", pyproject, REQUIRED),
    ):
        subprocess.run(command, check=True)
    return venv / "bin" / "python"


class Told:
    """What the spans of a run tell, held against what dbt has written."""

    def __init__(self, run: Run) -> None:
        self._run = run
        (folder,) = run.targets
        self._log = (folder / "dbt.log").read_text()
        manifest = json.loads((folder / "manifest.json").read_bytes())
        names = {key: node["name"] for key, node in {**manifest["nodes"], **manifest["unit_tests"]}.items()}
        spans = {span.name: span for span in run.spans}
        self._results = {key: result for key, result in run.results.items() if key in names}
        # dagster-otel's spans have the names of assets and checks.
        self._nodes = {key: spans.get(key) or spans.get(names[key]) for key in self._results}

    def rows(self) -> Iterator[tuple[str, Callable[[], object]]]:
        """Yield what is counted, in the order of the table."""
        spans, by_id = self._run.spans, {span.span_id for span in self._run.spans}
        yield "spans", lambda: len(spans)
        yield "traces", lambda: len({span.trace_id for span in spans})
        yield "the trace id is the run id", lambda: {self._run.trace_id} == {span.trace_id.hex() for span in spans}
        yield "roots", lambda: sum(not span.parent_span_id for span in spans)
        yield "orphans", lambda: sum(bool(span.parent_span_id) and span.parent_span_id not in by_id for span in spans)
        yield "nodes with a span", lambda: f"{sum(map(bool, self._nodes.values()))} of {len(self._nodes)}"
        for status in ("error", "fail", "skipped"):
            yield f"of those, {status}", partial(self._of, status)
        yield "failures with dbt's message", lambda: f"{self._explained()} of {len(self._bad())}"
        yield "links", lambda: sum(len(span.links) for span in spans)
        yield "attributes of a node", lambda: len(self.keys())
        yield "dbt knows its trace", lambda: self._run.trace_id in self._log
        yield "metrics", lambda: len(self._run.metrics)
        yield "start off by (median, most), ms", lambda: self._off("started_at", lambda s: s.start_time_unix_nano, 0)
        yield "end off by (median, most), ms", lambda: self._off("completed_at", lambda s: s.end_time_unix_nano, -1)

    def keys(self) -> set[str]:
        """Return the attributes that any node's span has."""
        return {key for span in self._nodes.values() if span for key in attributes(span)}

    def is_complete(self) -> bool:
        """Say whether each executed node has a span and each failure its message."""
        return all(self._nodes.values()) and self._explained() == len(self._bad())

    def _of(self, status: str) -> str:
        spans = [self._nodes[key] for key, result in self._results.items() if result["status"] == status]
        return f"{sum(map(bool, spans))} of {len(spans)}"

    def _bad(self) -> list[str]:
        return [key for key, result in self._results.items() if result["status"] in {"error", "fail"}]

    def _explained(self) -> int:
        spans = [span for key in self._bad() if (span := self._nodes[key])]
        return sum(span.status.code == Status.STATUS_CODE_ERROR and bool(span.events) for span in spans)

    def _off(self, edge: str, of: Callable[[Span], int], phase: int) -> str:
        off = [
            abs(datetime.fromisoformat(result["timing"][phase][edge]).timestamp() * 1e3 - of(span) / 1e6)
            for key, result in self._results.items()
            if (span := self._nodes[key]) and result["timing"]
        ]
        return f"{statistics.median(off):.1f}, {max(off):.1f}"


def report(theirs: Told, ours: Told) -> int:
    """Print the table; return 0 if ours is complete and has all of theirs."""
    print(f"{'':34}{'dagster-otel 0.5.1':>22}{'floe':>22}")
    for (row, other), (_, own) in zip(theirs.rows(), ours.rows(), strict=True):
        print(f"{row:34}{other()!s:>22}{own()!s:>22}")
    print(f"attributes of theirs: {', '.join(sorted(theirs.keys()))}")
    print(f"attributes of ours: {', '.join(sorted(ours.keys()))}")
    return int(not ours.is_complete())


if __name__ == "__main__":
    sys.exit(main())
