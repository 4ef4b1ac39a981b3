"""The cost of endpoints that refuse or hang, compared with the same project and a live receiver.

Unsent events and spans are kept for the next run. They are deleted between runs, so that no run sends those of another.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import endpoint
from benchmarks.launch import Side, same
from benchmarks.measure import RefusedError, alternate, compare
from benchmarks.projects import observed_project

TABLES, REPEATS = 100, 2
UNSENT = ".floe/**/*.ndjson"


def at(url: str) -> Mapping[str, str]:
    """Return the variables that send everything to one URL."""
    return {"OPENLINEAGE_URL": url, "OTEL_EXPORTER_OTLP_ENDPOINT": url}


def measure(root: Path, tables: int, repeats: int) -> dict[str, Any]:
    """Run all in turn; the base of the comparison is the live receiver.

    Raises:
        RefusedError: A side has built something else, or the live receiver was told of nothing.
    """
    with endpoint.healthy() as live, endpoint.refused() as refused, endpoint.hanging() as hanging:
        healthy = Side(observed_project(root / "healthy", tables), variables=at(live.url), forget=(UNSENT,))
        healthy.parse()
        healthy()
        sides = {"healthy": healthy}
        for name, url in {"refused": refused, "hanging": hanging}.items():
            project = shutil.copytree(healthy.project, root / name)
            sides[name] = replace(healthy, project=project, variables=at(url), built=None)
        live.taken()
        found = alternate(sides, repeats)
        events, spans = live.taken()
    same(*(side.built for side in sides.values()))
    if not events or not spans:
        raise RefusedError("nothing has arrived at the live receiver")
    return {"tables": tables, **compare(found, "healthy")}


def benchmark(quick: bool) -> dict[str, Any]:
    """Return the figures."""
    with tempfile.TemporaryDirectory() as folder:
        return {"dead": measure(Path(folder), *((50, 1) if quick else (TABLES, REPEATS)))}
