"""Tests of internal errors while dbt runs: a real observer over recorded events, with one function raising at a time.

Lineage and spans go to a real receiver.
"""

from __future__ import annotations

import json
import logging
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.faults.drive import context, environment, invocation, quiet
from tests.lineage.replay import RECORDED, RUN_ID, lines
from tools.receiver import receiver

pytestmark = pytest.mark.xdist_group("faults")

FAILED = RuntimeError("dbt ended with exit code 1")
LINEAGE = [
    "lineage.checks:input_facets",
    "lineage.checks:run_facets",
    "lineage.datasets:DatasetBuilder._column_lineage",
    "lineage.datasets:DatasetBuilder._described",
    "lineage.datasets:DatasetBuilder.inputs",
    "lineage.datasets:DatasetBuilder.name",
    "lineage.datasets:DatasetBuilder.outputs",
    "lineage.datasets:DatasetBuilder.query",
    "lineage.datasets:_rows",
    "lineage.datasets:table_facets",
    "lineage.table_facets:_schema",
    "lineage.table_facets:read_node_meta",
    "lineage.jobs:JobFacets.facets",
    "lineage.jobs:Repository.around",
    "lineage.events:RunEventBuilder._reason",
    "lineage.run_facets:RunFacets.command",
    "lineage.run_facets:RunFacets.command_started",
    "lineage.run_facets:RunFacets.dagster_run",
    "lineage.run_facets:RunFacets.finished",
    "lineage.run_facets:RunFacets.started",
    "lineage.run_facets:_engine",
    "lineage.run_facets:_left_out",
    "lineage.run_facets:_with_file",
    "lineage.columns.schemas:Schemas.query",
    "lineage.columns.schemas:Schemas.table",
    "lineage.columns.schemas:read_query",
    "lineage.sources:_schemas",
]
TRACES = [
    "tracing.spans:error_type",
    "tracing.spans:node_attributes",
    "tracing.watcher:_asset",
    "tracing.watcher:manifest_attributes",
    "tracing.watcher:warehouse_attributes",
]
METRICS = [
    "tracing.metrics:Metrics.collect",
    "tracing.metrics:Metrics.record",
    "tracing.metrics:Metrics.record_lineage",
]
BOTH = [
    "dbt.debug_log:DebugLog.finished",
    "dbt.node_events:executed",
    "dbt.node_events:time_of",
    "dbt.manifest_graph:Graph.node",
    "dbt.manifest_graph:Graph.read",
    "dbt.manifest_graph:Graph.tables_upstream",
]

# Nodes whose events lack what another node's fault has cost: here the version of a table that they read.
UNCOUNTED = {"lineage.datasets:DatasetBuilder.outputs": 2}


@dataclass
class Observed:
    """What a run has sent and logged.

    Attributes:
        events: The lineage events that the receiver has.
        spans: The spans that it has.
        tags: Those of the Dagster run.
        log: What was logged.
    """

    events: list[dict[str, Any]]
    spans: list[Span]
    tags: dict[str, str]
    log: list[logging.LogRecord]

    @property
    def states(self) -> Counter[tuple[str, str]]:
        """Return the events as job and state."""
        return Counter((event["job"]["name"], event["eventType"]) for event in self.events)

    @property
    def statuses(self) -> Counter[tuple[str, Any]]:
        """Return the spans as name and status."""
        return Counter((span.name, span.status.code) for span in self.spans)

    def lost(self, signal: str) -> int:
        """Return of how many nodes a signal has lost detail, as the tag has it."""
        match = re.search(r"detail lost for (\d+) node", self.tags[f"floe/{signal}"])
        return int(match[1]) if match else 0

    def by_job(self) -> dict[str, list[Any]]:
        """Return the content of the events of each job, without the times of this run."""
        jobs: dict[str, list[Any]] = {}
        for event in self.events:
            jobs.setdefault(event["job"]["name"], []).append({**event, "eventTime": ""})
        return jobs


def observe(folder: Path) -> Observed:
    """Observe the recorded build, which fails, with a receiver of both signals."""
    from pipeline.floe.observer import Observer
    from pipeline.floe.settings import settings

    target = folder / "target"
    target.mkdir(parents=True)
    for name in ("manifest.json", "run_results.json", "compiled"):
        (target / name).symlink_to(RECORDED / "duckdb" / name)
    (target / "dbt.log").write_text((RECORDED / "duckdb" / "debug_log.jsonl").read_text())
    tags: dict[str, str] = {}
    run_id = str(uuid4())
    with receiver() as endpoint, environment(folder / "state"), quiet(), collected() as log:
        own = replace(settings, openlineage_url=endpoint.url, otlp_endpoint=endpoint.url)
        observer = Observer(context(tags, run_id=run_id), own)
        observer.attach(invocation(target))
        for raw in lines(RECORDED / "duckdb" / "events.jsonl"):
            observer.handle(raw)
        observer.finish(FAILED)
    text = json.dumps(endpoint.events).replace(run_id, RUN_ID)
    # Within a git repository, events have paths from its root on: nox keeps temporary files below the template's.
    for path in (target, *(target.relative_to(parent) for parent in reversed(target.parent.parents))):
        text = text.replace(str(path), "target")
    tags = {name: value.replace(run_id, RUN_ID) for name, value in tags.items()}
    return Observed(json.loads(text), endpoint.spans, tags, log)


@contextmanager
def collected() -> Iterator[list[logging.LogRecord]]:
    """Collect what any logger says."""
    records: list[logging.LogRecord] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    handler, root = Collect(logging.INFO), logging.getLogger()
    root.addHandler(handler)
    run_log = logging.getLogger("tests.faults.run")
    level, run_level = root.level, run_log.level
    run_log.setLevel(logging.INFO)
    try:
        yield records
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
        run_log.setLevel(run_level)


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Observed:
    """Return what is sent without a fault."""
    return observe(tmp_path_factory.mktemp("truth"))


@pytest.fixture(scope="module", params=[*LINEAGE, *TRACES, *METRICS, *BOTH])
def place(request: pytest.FixtureRequest) -> str:
    """Return each function that is to raise."""
    return str(request.param)


@pytest.fixture(scope="module")
def observed(place: str, tmp_path_factory: pytest.TempPathFactory) -> Observed:
    """Return what is sent while the function raises whenever it is called."""
    module, _, path = place.partition(":")
    owner: Any = import_module(f"pipeline.floe.{module}")
    *outer, attribute = path.split(".")
    for part in outer:
        owner = getattr(owner, part)

    def fail(*_: Any, **__: Any) -> Any:
        raise ValueError(f"planted in {path}")

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.delenv("FLOE_RAISE")  # as in production
        monkeypatch.setattr(owner, attribute, fail)
        return observe(tmp_path_factory.mktemp("run"))


def test_fault(truth: Observed, observed: Observed, place: str) -> None:
    """Whatever raises, each node has one start, its true end and its span; the tag counts who has lost detail."""
    lost = {signal: observed.lost(signal) for signal in ("lineage", "traces", "metrics")}
    different, uncounted = len(changed(observed, truth)), UNCOUNTED.get(place, 0)

    assert truth.states == observed.states
    assert truth.statuses == observed.statuses
    assert (place in [*LINEAGE, *BOTH], place in [*TRACES, *BOTH]) == (lost["lineage"] > 0, lost["traces"] > 0)
    assert place in BOTH or (place in METRICS) == (lost["metrics"] > 0)  # what dbt's events lack, metrics may lack
    assert different <= lost["lineage"] + uncounted
    assert place not in LINEAGE or different == lost["lineage"] + uncounted


def test_told(observed: Observed) -> None:
    """The last line of the run's log has what the tags have, and the fault, whose traceback is logged once a signal."""
    last = [record.getMessage() for record in observed.log if record.name == "tests.faults.run"][-1]
    planted = [record for record in observed.log if record.exc_info and "planted" in str(record.exc_info[1])]

    assert [
        f"{signal}: {observed.tags[f'floe/{signal}']}" in last for signal in ("lineage", "traces", "metrics")
    ] == 3 * [True]
    assert "internal error, with its traceback in the log: ValueError: planted in" in last
    assert len({record.getMessage().partition(":")[0] for record in planted}) == len(planted) > 0


def changed(observed: Observed, truth: Observed) -> list[str]:
    """Return the jobs whose events differ from the truth."""
    return [job for job, events in observed.by_job().items() if events != truth.by_job()[job]]


def test_whole(truth: Observed) -> None:
    """Without a fault nothing is lost, and the tags do not mention it."""
    counts = {"floe/lineage": "118 sent", "floe/traces": "60 sent", "floe/metrics": "1 sent"}
    hidden = {".dagster/floe_end": RUN_ID, ".dagster/floe_counted": RUN_ID}
    assert counts | hidden == truth.tags


def test_catalog(truth: Observed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault in what only Dagster shows costs no event a detail, and is logged once."""

    def fail(*_: Any) -> Any:
        raise ValueError("planted")

    monkeypatch.delenv("FLOE_RAISE")
    monkeypatch.setattr("pipeline.floe.lineage.sources.table_metadata", fail)
    observed = observe(tmp_path / "run")

    assert (truth.states, []) == (observed.states, changed(observed, truth))
    assert truth.tags.keys() == observed.tags.keys()
    assert {"118 sent"} == {truth.tags["floe/lineage"], observed.tags["floe/lineage"]}
    (warning,) = (record.getMessage() for record in observed.log if record.exc_info)
    assert warning.startswith("Dagster's catalog: a detail of ")


def test_no_json(truth: Observed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An event with a value that has no JSON leaves without its details."""
    from pipeline.floe.lineage import jobs

    monkeypatch.delenv("FLOE_RAISE")
    endless: list[Any] = []
    endless.append(endless)
    monkeypatch.setattr(jobs, "_dbt_node", lambda _: endless)
    observed = observe(tmp_path / "run")

    assert truth.states == observed.states
    assert len(changed(observed, truth)) == observed.lost("lineage") == len(truth.by_job()) - 2
    parents = [event["run"]["facets"]["parent"]["job"]["name"] for event in observed.events[2:-2]]
    assert {"dbt.shop"} == set(parents)


def test_odd_json(truth: Observed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If our own way to JSON fails, the client's serves, and nothing is lost."""
    from pipeline.floe.lineage import outbox

    def fail(_: Any) -> str:
        raise ValueError("planted")

    monkeypatch.setattr(outbox, "as_json", fail)
    observed = observe(tmp_path / "run")

    assert [] == changed(observed, truth)
    assert truth.tags == observed.tags


def test_never_silently_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If lineage cannot even begin, the run's tag and its last log line say so; spans leave all the same."""
    from pipeline.floe.lineage import watcher

    def fail(*_: Any) -> Any:
        raise ValueError("planted in run_event_builder")

    monkeypatch.delenv("FLOE_RAISE")
    monkeypatch.setattr(watcher, "run_event_builder", fail)
    observed = observe(tmp_path / "run")

    counts = {"floe/traces": "60 sent", "floe/metrics": "1 sent", "floe/lineage": "2 sent (detail lost for 1 node)"}
    assert counts | {".dagster/floe_end": RUN_ID, ".dagster/floe_counted": RUN_ID} == observed.tags
    assert 60 == len(observed.spans)
    assert "ValueError: planted in run_event_builder" in observed.log[-1].getMessage()
