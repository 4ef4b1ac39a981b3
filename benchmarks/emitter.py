"""The CPU time of lineage per node, with 100 and 1,000 tables: on the first run, and again with nothing changed.

The project is generated: each table reads one to three earlier tables and has one test. dbt's events are generated too,
so only our own work is measured: reading them, creating events and serializing these to JSON.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tools.rendering import render, snapshot

COLUMNS = 12
INVOCATION = "0192f0b5-0a2f-7f4d-9a5e-000000000001"
ALLOWED = 1.2  # what a node at 1,000 tables may cost of one at 100


def project(folder: Path, tables: int) -> None:
    """Write the manifest and the compiled SQL of a project with so many tables."""
    nodes: dict[str, Any] = {}
    models = folder / "compiled" / "shop" / "models"
    models.mkdir(parents=True)
    for i in range(tables):
        parents = [i - step for step in (1, 7, 31) if i - step >= 0 and (step == 1 or i % step == 0)]
        (models / f"t{i}.sql").write_text(_sql(parents))
        upstream = [f"model.shop.t{parent}" for parent in parents]
        nodes[f"model.shop.t{i}"] = _node(i, upstream)
        nodes[f"test.shop.not_null_t{i}"] = _test(i)
    told = {"metadata": {"project_name": "shop", "adapter_type": "duckdb"}, "nodes": nodes}
    (folder / "manifest.json").write_text(json.dumps(told))


def _sql(parents: list[int]) -> str:
    if not parents:
        return "select " + ", ".join(f"cast({n} as integer) as c{n}" for n in range(COLUMNS))
    named = [f't{parent} as (select * from "shop"."main"."t{parent}")' for parent in parents]
    joins = "".join(f" join t{parent} on t{parents[0]}.c0 = t{parent}.c0" for parent in parents[1:])
    columns = [f"coalesce(t{parents[n % len(parents)]}.c{n}, 0) as c{n}" for n in range(1, COLUMNS)]
    return f"with {', '.join(named)} select t{parents[0]}.c0, {', '.join(columns)} from t{parents[0]}{joins}"


def _node(i: int, upstream: list[str]) -> dict[str, Any]:
    columns = {f"c{n}": {"name": f"c{n}", "description": f"Column {n} of the table."} for n in range(COLUMNS)}
    return {
        "unique_id": f"model.shop.t{i}",
        "resource_type": "model",
        "name": f"t{i}",
        "alias": f"t{i}",
        "package_name": "shop",
        "original_file_path": f"models/t{i}.sql",
        "database": "shop",
        "schema": "main",
        "relation_name": f'"shop"."main"."t{i}"',
        "description": "A table of the benchmark.",
        "columns": columns,
        "tags": ["bench"],
        "config": {"materialized": "table", "meta": {"floe": {"owner": "team:bench"}}},
        "depends_on": {"nodes": upstream},
    }


def _test(i: int) -> dict[str, Any]:
    return {
        "unique_id": f"test.shop.not_null_t{i}",
        "resource_type": "test",
        "name": f"not_null_t{i}",
        "package_name": "shop",
        "original_file_path": "models/schema.yml",
        "path": f"not_null_t{i}.sql",
        "config": {"materialized": "test", "severity": "ERROR"},
        "test_metadata": {"name": "not_null", "kwargs": {"column_name": "c0"}},
        "column_name": "c0",
        "attached_node": f"model.shop.t{i}",
        "depends_on": {"nodes": [f"model.shop.t{i}"]},
    }


def events(tables: int) -> Iterator[dict[str, Any]]:
    """Yield dbt's events of a build."""
    yield _event("MainReportVersion", {"version": "=1.11.16"})
    for i in range(tables):
        ran = (("Model", f"model.shop.t{i}", "success"), ("Test", f"test.shop.not_null_t{i}", "pass"))
        for kind, unique_id, status in ran:
            node = {"unique_id": unique_id, "resource_type": kind.lower(), "materialized": "table"}
            started = node | {"node_status": "started", "node_started_at": "2026-11-23T04:00:00.000000"}
            finished = started | {"node_status": status, "node_finished_at": "2026-11-23T04:00:01.000000"}
            yield _event("LogStartLine", {"node_info": started})
            result = {"status": status, "num_failures": 0, "adapter_response": {}, "message": "OK"}
            yield _event(f"Log{kind}Result", {"node_info": finished, "run_result": result})


def _event(name: str, data: dict[str, Any]) -> dict[str, Any]:
    return {"info": {"name": name, "invocation_id": INVOCATION, "ts": "2026-11-23T04:00:00.000000Z"}, "data": data}


def run(folder: Path, tables: int) -> tuple[float, float]:
    """Return the CPU seconds of making a build's events, and of turning them into JSON."""
    from pipeline.floe.dbt.catalog import Catalog
    from pipeline.floe.dbt.manifest_graph import Graph
    from pipeline.floe.dbt.node_events import EventTracker
    from pipeline.floe.lineage.columns.cache import ColumnCache
    from pipeline.floe.lineage.columns.schemas import Schemas
    from pipeline.floe.lineage.datasets import DatasetBuilder
    from pipeline.floe.lineage.event_json import as_json
    from pipeline.floe.lineage.events import RunEventBuilder
    from pipeline.floe.lineage.jobs import JobFacets
    from pipeline.floe.lineage.parents import CommandInfo, JobRun, RunContext
    from pipeline.floe.warehouse import DUCKDB

    def owners(_node: Any) -> list[str]:
        return ["team:shop"]

    raws = list(events(tables))
    begin = time.process_time()
    kept = ColumnCache(folder / "columns.json")
    graph = Graph.read(folder, {})
    datasets = DatasetBuilder(
        graph, DUCKDB, {"path": "/data/w"}, Schemas(graph, "duckdb", kept, Catalog(), lambda _f, _n: {}), owners, folder
    )
    jobs = JobFacets(graph, "duckdb", folder, None, owners)
    dagster_run = RunContext(run=JobRun("shop", "daily", INVOCATION), producer="https://example.com/shop")
    lineage = RunEventBuilder(
        dagster_run, CommandInfo(project_name="shop"), SimpleNamespace(graph=graph, datasets=datasets, jobs=jobs)
    )
    lives = EventTracker()
    in_json = 0.0
    for raw in raws:
        for life in lives.feed(raw):
            for event in lineage.events(life):
                made = time.process_time()
                as_json(event)
                in_json += time.process_time() - made
    kept.save()
    return time.process_time() - begin - in_json, in_json


def benchmark(quick: bool) -> dict[str, Any]:
    """Return CPU milliseconds a node of each size, and the last size's over the first's once nothing has changed."""
    sizes = [100, 400] if quick else [100, 1000]
    rows: dict[str, Any] = {}
    again: dict[int, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        sys.path.insert(0, str(render(snapshot(root / "template"), root / "project", project_name="pipeline") / "src"))
        for i, tables in enumerate([sizes[0], *sizes]):  # the first is thrown away: it imports
            target = root / f"target{i}"
            project(target, tables)
            first, _ = run(target, tables)
            second, as_json = run(target, tables)
            count = 2 * tables
            again[tables] = (second + as_json) / count
            shown = {"first run": first, "unchanged": second, "as JSON": as_json}
            rows[str(tables)] = {
                f"CPU ms per node, {key}": round(1000 * each / count, 2) for key, each in shown.items()
            }
    return {"sizes": rows, "ratio": round(again[sizes[-1]] / again[sizes[0]], 2)}
