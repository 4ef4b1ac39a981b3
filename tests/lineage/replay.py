"""Replays: the OpenLineage events that a run with recorded dbt events would send, without dbt or a warehouse."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from openlineage.client.event_v2 import RunEvent

from tools.rendering import REPOSITORY, TARGETS

RECORDED = REPOSITORY / "tests" / "recorded"
RECORDINGS = [target for target in TARGETS if (RECORDED / target).is_dir()]
SAMPLE = next((REPOSITORY / "template").glob("*overlay.sample *")) / "dbt"
RUN_ID = "5f8b6a52-6f3a-4c35-9a2e-1f2d3c4b5a69"
AT = datetime(2026, 11, 23, 4, tzinfo=UTC)
PRODUCER = "https://example.com/shop-template"
# What a profile of each target has, and the namespace that its tables are to be in.
CONNECTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "bigquery": ({}, "bigquery"),
    "databricks": ({"host": "adb-1.2.azuredatabricks.net"}, "databricks://adb-1.2.azuredatabricks.net"),
    "duckdb": ({"path": "/data/warehouse.duckdb"}, "duckdb:///data/warehouse.duckdb"),
    "postgres": ({"host": "db.example.com", "port": 5432}, "postgres://db.example.com:5432"),
    "redshift": (
        {"host": "shop.c1x2.eu-west-1.redshift.amazonaws.com", "port": 5439},
        "redshift://shop.eu-west-1:5439",
    ),
    "snowflake": ({"account": "myorg-prod"}, "snowflake://myorg-prod"),
    "spark": ({"host": "thrift.example.com", "port": 10000, "method": "thrift"}, "spark://thrift.example.com:10000"),
}


@cache
def warehouse(target: str) -> Any:
    """Return `TARGET` of a target's own `floe/target.py`, as it lies in the template."""
    file = next((REPOSITORY / "template").glob(f"*overlay.{target} *")) / "src" / "{{ package_name }}" / "floe"
    name = f"pipeline.floe.target_{target}"
    spec = importlib.util.spec_from_file_location(name, file / "target.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module.TARGET


def replay(target: str, **told: Any) -> list[dict[str, Any]]:
    """Return the events of a recorded command, as they are sent; `told` is as for `run_events`."""
    from pipeline.floe.lineage.event_json import as_json

    return [json.loads(as_json(event)) for event in run_events(target, **told)]


def run_events(
    target: str,
    *,
    folder: Path | None = None,
    raws: list[dict[str, Any]] | None = None,
    kept: Path | None = None,
    environment: Mapping[str, str] | None = None,
    deferral: Any = None,
    catalog: Path | None = None,
    runs_in: Path = Path("/project/dbt"),
    types: Any = lambda _file, _node: {},
    arguments: Sequence[str] = ("dbt", "build", "--vars", "{key: secret}"),
    **end: Any,
) -> list[RunEvent]:
    """Return the events of a recorded command in a Dagster run of its own.

    Args:
        target: Of which the engine is.
        folder: Where the recording lies, if not under `tests/recorded`.
        raws: dbt's events, if not all that were recorded.
        kept: The file of what is known of columns from runs before.
        environment: The variables that name a parent from outside.
        deferral: What the command defers to.
        catalog: The project's `catalog.json`.
        runs_in: The folder that dbt runs in.
        types: The types of a seed's columns.
        arguments: The command line.
        end: How the command ended: `message`, `interrupted`.
    """
    from pipeline.floe.dbt.catalog import Catalog, read_catalog
    from pipeline.floe.dbt.manifest_graph import Graph
    from pipeline.floe.dbt.node_events import EventTracker, Outcome
    from pipeline.floe.lineage.columns.cache import ColumnCache
    from pipeline.floe.lineage.columns.schemas import Schemas
    from pipeline.floe.lineage.datasets import DatasetBuilder
    from pipeline.floe.lineage.events import RunEventBuilder
    from pipeline.floe.lineage.jobs import JobFacets
    from pipeline.floe.lineage.parents import CommandInfo, JobRun, RunContext, outer_run

    folder = folder or RECORDED / target
    details = {line["data"]["node_info"]["unique_id"]: line for line in lines(folder / "debug_log.jsonl")}
    graph = Graph.read(folder, {}, deferral)
    for node in graph._nodes.values():
        if node["resource_type"] == "seed" and not node.get("root_path"):
            node["root_path"] = str(SAMPLE)  # no recording names a path of its machine
    if folder == RECORDED / target:  # the first build of its tables, recorded without its log
        graph.is_new = lambda _node, _invocation_id: True
    engine = warehouse(target)
    columns = ColumnCache(kept)
    files = [*([catalog] if catalog else []), *([deferral.catalog_file] if deferral else [])]
    cataloged = Catalog(*map(read_catalog, files))
    schemas = Schemas(graph, engine.dialect, columns, cataloged, types, engine.namespace(CONNECTIONS[target][0]))
    datasets = DatasetBuilder(graph, engine, CONNECTIONS[target][0], schemas, owners, runs_in)
    outer = outer_run(environment or {})
    run = RunContext(
        run=JobRun("shop", "daily", RUN_ID),
        producer=PRODUCER,
        parent=outer[0] if outer else None,
        root=outer[1] if outer else None,
        nominal=("2026-11-23T00:00:00+00:00", "2026-11-24T00:00:00+00:00"),
        tags={"dagster/partition": "2026-11-23"},
        version="1.13.27",
    )
    command = CommandInfo(project_name="shop", profile_name="shop", arguments=list(arguments))
    jobs = JobFacets(graph, engine.dialect, Path("/project/dbt"), None, owners)
    lineage = RunEventBuilder(run, command, SimpleNamespace(graph=graph, datasets=datasets, jobs=jobs))
    lives = EventTracker(lambda unique_id, _is_wanted: [details[unique_id]] if unique_id in details else [])
    events = [lineage.run_started(AT)]
    for raw in lines(folder / "events.jsonl") if raws is None else raws:
        for life in lives.feed(raw):
            events += lineage.events(life)
    now = datetime.now(UTC)
    for life in lives.end(at=now, **end):
        events += lineage.events(life)
    interrupted = Outcome.INTERRUPTED if end.get("interrupted") else Outcome.FAIL
    events.append(lineage.run_finished(now, interrupted if end.get("message") else Outcome.SUCCESS, end.get("message")))
    columns.save()
    return events


def owners(node: Mapping[str, Any]) -> list[str]:
    """Return a node's owners in a project that has no default."""
    from pipeline.floe.assets.meta import read_node_meta, resolve_owners

    names: list[str] = resolve_owners(read_node_meta(node, print).owner, None, None, print)
    return names


def lines(file: Path) -> list[dict[str, Any]]:
    """Return a file of JSON lines."""
    return [json.loads(line) for line in file.read_text().splitlines()]


def of(events: list[dict[str, Any]], unique_id: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the start and the end of a node's run."""
    start, end = (event for event in events if event["job"]["name"] == unique_id)
    return start, end
