"""A Dagster run over recorded dbt events: observer and senders are real, dbt and the warehouse are not there.

`recording.json` is an excerpt of what dbt has printed and written while it built the template's sample project on this
project's target, with a model and a test that fail. `names.py` has the connection to that warehouse.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

import dagster as dg
import pytest
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from . import names
from .endpoint import Endpoint, serve
from .package import Observer, sender, settings

RECORDING = json.loads(Path(__file__).with_name("recording.json").read_text(encoding="utf-8"))
INVOCATION_ID: str = RECORDING["metadata"]["invocation_id"]
KEPT = {"incremental", "seed", "snapshot"}  # materializations whose later runs keep the table
RUN_ID = "5f8b6a52-6f3a-4c35-9a2e-1f2d3c4b5a69"
# Node -> its result in dbt's words.
FINISHED = {event["data"]["node_info"]["unique_id"]: event["data"]["run_result"] for event in RECORDING["finished"]}
UNIT_TEST = "unit_test.shop.daily_revenue.daily_revenue_computes_the_refund_window_again"
# dbt runs no unit tests on Spark.
HAS_UNIT_TEST = any(event["data"].get("node_info", {}).get("unique_id") == UNIT_TEST for event in RECORDING["printed"])
FAILURE = RuntimeError("dbt ended with exit code 1")
# The recording up to dbt's first event: a run that fails before its first node, with 4 events and 3 spans.
WITHOUT_NODES = {**RECORDING, "printed": RECORDING["printed"][:1]}


@dataclass(frozen=True, slots=True, repr=False)  # pages of it would hide what a test says
class Sent:
    """What the endpoint has taken of the recorded run, and the tags of the run in Dagster.

    Attributes:
        events: OpenLineage events, in the order of their arrival.
        spans: Spans as OTLP has them.
        tags: Tags by which the run says in Dagster what was sent.
        metrics: Metrics as OTLP has them.
        resources: The resources of spans and metrics, without repetitions.
    """

    events: list[dict[str, Any]]
    spans: list[Span]
    tags: dict[str, str]
    metrics: list[Metric]
    resources: list[Resource]

    @classmethod
    def of(cls, endpoint: Endpoint, tags: dict[str, str]) -> Sent:
        """Return what `endpoint` has taken of a run with these tags."""
        return cls(endpoint.events, endpoint.spans, tags, endpoint.metrics, endpoint.resources)

    def event(self, job: str, *states: str) -> dict[str, Any]:
        """Return the one event of a job with one of `states`, by default its end."""
        wanted = states or ("COMPLETE", "FAIL", "ABORT")
        [event] = [event for event in self.events if event["job"]["name"] == job and event["eventType"] in wanted]
        return event

    def output(self, job: str) -> dict[str, Any]:
        """Return the one dataset that a job has written."""
        [dataset] = self.event(job)["outputs"]
        found: dict[str, Any] = dataset
        return found

    def span(self, name: str) -> Span:
        """Return the one span of a name."""
        [span] = [span for span in self.spans if span.name == name]
        return span


def run_recorded(
    folder: Path,
    *,
    lineage_url: str = "",
    otlp_url: str = "",
    run_id: str = RUN_ID,
    added_text: str = "",
    patience: float = 60.0,
    recording: Mapping[str, Any] = RECORDING,
    context: Mapping[str, Any] = MappingProxyType({}),
    arguments: Sequence[str] = ("dbt", "build"),
    project_version: str | None = None,
    error: BaseException | None = FAILURE,
    tags_before: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, str]:
    """Observe the recorded dbt command; return the tags of the Dagster run that Dagster shows.

    Args:
        folder: A folder for what dbt writes.
        lineage_url: Where lineage goes; blank sends none.
        otlp_url: Where spans and metrics go; blank sends none.
        run_id: Dagster's id of the run.
        added_text: What dbt's message for the failed model, and a comment in each model's SQL, say in addition.
        patience: Seconds for which the run may go on sending beyond its budget: a busy machine may need them.
        recording: The recording, perhaps changed.
        context: What differs in Dagster's context.
        arguments: The command line of dbt.
        project_version: The version of the dbt project.
        error: The error with which the command ends, if any.
        tags_before: The tags that the Dagster run already has.
    """
    target_path = folder / "target"
    printed, finished = (json.dumps(recording[part]) for part in ("printed", "finished"))
    if added_text:
        added = json.dumps(f"in model broken {added_text}")[1:-1]
        printed, finished = (text.replace("in model broken", added) for text in (printed, finished))
    write_target(target_path, recording, json.loads(finished), added_text)
    tags = dict(tags_before)
    own = replace(settings, openlineage_url=lineage_url, otlp_endpoint=otlp_url, otlp_protocol="http/protobuf")
    observer = Observer(made_up_context(run_id, tags, context), own)
    observer.attach(made_up_invocation(target_path, recording, arguments, project_version))
    for event in json.loads(printed):
        observer.handle(event)
    with more_time(patience):
        observer.finish(error)
    return {name: value for name, value in tags.items() if not name.startswith(".")}


def send_recorded(folder: Path, **options: Any) -> Sent:
    """Observe the recorded dbt command with these options of `run_recorded`; return what it sends."""
    with serve() as endpoint:
        tags = run_recorded(folder, lineage_url=endpoint.url, otlp_url=endpoint.url, **options)
        return Sent.of(endpoint, tags)


@contextmanager
def more_time(seconds: float) -> Iterator[None]:
    """Let channels send for `seconds` more than they are given."""
    close = sender.Delivery.close
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(sender.Delivery, "close", lambda self, deadline: close(self, deadline + seconds))
        yield


def write_target(folder: Path, recording: Mapping[str, Any], finished: list[dict[str, Any]], comment: str) -> None:
    """Write what dbt leaves in its target folder, and the files of its project that are read."""
    manifest = {kind: recording[kind] for kind in ("metadata", "nodes", "sources", "unit_tests", "exposures")}
    manifest["nodes"] = {name: {**node, "root_path": str(folder.parent)} for name, node in manifest["nodes"].items()}
    # The recorded run is the first, so dbt creates the tables to which later runs only add rows.
    kept = [node for node in recording["nodes"].values() if node["config"]["materialized"] in KEPT]
    log = [*map(created, kept), *finished]
    files = {"manifest.json": json.dumps(manifest), "dbt.log": "".join(f"{json.dumps(event)}\n" for event in log)}
    written = {folder.parent / "dbt_project.yml": "name: shop\n"}
    written |= {folder / name: text for name, text in files.items()}
    written |= {folder / name: f"{sql}\n-- {comment}" for name, sql in recording["compiled"].items()}
    written |= {folder.parent / name: text for name, text in recording["seeds"].items()}
    for file, text in written.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")


def created(node: Mapping[str, Any]) -> dict[str, Any]:
    """Return the event with which dbt logs that it creates a node's table."""
    return {
        "info": {"name": "SQLQuery", "invocation_id": INVOCATION_ID, "ts": "2026-11-23T05:00:00Z"},
        "data": {"sql": f"create table {node['relation_name']} as (", "node_info": {"unique_id": node["unique_id"]}},
    }


def made_up_context(run_id: str, tags: dict[str, str], changes: Mapping[str, Any]) -> Any:
    """Return as much of Dagster's context as is read, with `changes`; `tags` takes those of the run."""
    context = SimpleNamespace(
        run=SimpleNamespace(execution_plan_snapshot_id="plan", parent_run_id=None, tags={}),
        run_id=run_id,
        job_name="daily",
        retry_number=0,
        has_partition_key=False,
        has_partition_key_range=False,
        instance=SimpleNamespace(
            add_run_tags=lambda _, added: tags.update(added),
            get_run_record_by_id=lambda _: SimpleNamespace(start_time=None, dagster_run=SimpleNamespace(tags=tags)),
            get_latest_materialization_event=lambda _: None,
            get_execution_plan_snapshot=lambda _: SimpleNamespace(step_keys_to_execute=["dbt"], steps=[]),
        ),
        log=logging.getLogger("floe_tests"),
        get_step_execution_context=lambda: SimpleNamespace(step=SimpleNamespace(key="dbt"), op_retry_policy=None),
    )
    context.__dict__.update(changes)
    return context


def made_up_invocation(
    target_path: Path, recording: Mapping[str, Any], arguments: Sequence[str], project_version: str | None
) -> Any:
    """Return as much of dagster-dbt's handle of a dbt command as is read."""
    config = SimpleNamespace(
        credentials=SimpleNamespace(**names.CONNECTION),
        project_name="shop",
        profile_name="shop",
        version=project_version,
    )
    return SimpleNamespace(
        target_path=target_path,
        project_dir=target_path.parent,
        manifest={name: recording[name] for name in ("metadata", "nodes", "sources")},
        project=None,
        adapter=SimpleNamespace(config=config, convert_type=lambda _table, _index: "text"),
        process=SimpleNamespace(args=list(arguments), poll=lambda: None),
        dagster_dbt_translator=SimpleNamespace(
            get_asset_key=lambda node: dg.AssetKey(node["name"]),
            get_asset_spec=lambda _manifest, unique_id, _project: dg.AssetSpec(unique_id.rpartition(".")[2]),
            get_owners=lambda _: None,
        ),
    )
