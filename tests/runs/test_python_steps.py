"""Tests of steps of Python code: one trace and one graph of lineage from a file, through dbt, to a file."""

from __future__ import annotations

import json
import re
import socket
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.tracing.test_trace import level, table
from tools import runs
from tools.runs import Run, attributes

pytestmark = pytest.mark.xdist_group("tracing")

# An ingestion before dbt and an export after it.
PIPELINE = """
import csv
import logging
from pathlib import Path

import dagster as dg
import duckdb
import structlog
from opentelemetry import trace

ROOT = Path(__file__).parents[3]
DATABASE = ROOT / "local" / "warehouse.duckdb"
COLUMNS = dg.TableSchema([dg.TableColumn("id", "BIGINT", description="Id of the payment."),
                          dg.TableColumn("amount", "BIGINT")])
api_file = dg.AssetSpec("api_file", metadata={"dagster/uri": "s3://shop/api/payments.json"})


@dg.asset(key=["api", "payments"], deps=[api_file], owners=["team:ingestion"], description="Payments of the shop.")
def payments() -> dg.MaterializeResult:
    trace.get_current_span().set_attribute("api.pages", 3)
    with trace.get_tracer("client").start_as_current_span("GET /payments"):
        logging.getLogger("client").info("standard line")
        structlog.get_logger("client").info("structlog line", page=1)
    with duckdb.connect(str(DATABASE)) as connection:
        connection.execute("create schema if not exists api")
        connection.execute("create or replace table api.payments as select i as id, 2 * i as amount from range(5) t(i)")
    return dg.MaterializeResult(metadata={"dagster/row_count": 5, "dagster/column_schema": COLUMNS})


@dg.asset_check(asset=payments)
def positive() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=False, severity=dg.AssetCheckSeverity.WARN)


@dg.asset(deps=["paid"], metadata={"dagster/uri": f"file://{ROOT}/local/export.csv"},
          check_specs=[dg.AssetCheckSpec("written", asset="export")])
async def export() -> dg.MaterializeResult:
    with duckdb.connect(str(DATABASE), read_only=True) as connection:
        rows = connection.sql("select * from main.paid").fetchall()
    with (ROOT / "local" / "export.csv").open("w") as stream:
        csv.writer(stream).writerows(rows)
    lineage = dg.TableColumnLineage({"total": [dg.TableColumnDep(dg.AssetKey("paid"), "total")]})
    return dg.MaterializeResult(
        metadata={"dagster/row_count": len(rows), "dagster/column_lineage": lineage},
        check_results=[dg.AssetCheckResult(check_name="written", passed=True)],
    )
"""
DBT = {
    "models/staging/api.yml": "sources: [{name: api, schema: api, tables: [{name: payments}]}]",
    "models/marts/paid.sql": "select *, amount as total from {{ source('api', 'payments') }}",
}
# Every kind of function, and steps that fail at every stage.
KINDS = """
import os
from collections.abc import AsyncIterator, Iterator

import dagster as dg
from opentelemetry import trace


def current() -> str:
    return getattr(trace.get_current_span(), "name", "none")


@dg.asset
def plain() -> str:
    return current()


@dg.asset
def loads(context: dg.AssetExecutionContext, plain: str) -> None:
    context.log.info(f"PLAIN {plain}")


@dg.asset
async def coroutine() -> str:
    return current()


@dg.multi_asset(specs=[dg.AssetSpec("first", deps=["plain"]), dg.AssetSpec("second")], can_subset=True)
def generator(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult]:
    for key in sorted(context.selected_asset_keys):
        yield dg.MaterializeResult(key, metadata={"span": current(), "dagster/uri": f"s3://bucket/{key.path[0]}"})


@dg.multi_asset(specs=[dg.AssetSpec("third")])
async def async_generator() -> AsyncIterator[dg.MaterializeResult]:
    yield dg.MaterializeResult("third", metadata={"span": current()})


@dg.op
def inner() -> int:
    return 1


@dg.op
def outer(value: int) -> int:
    return value + 1


@dg.graph_asset
def graph() -> int:
    return outer(inner())


@dg.asset(partitions_def=dg.StaticPartitionsDefinition(["a", "b"]),
          metadata={"dagster/table_name": "warehouse.main.of_partition"})
def partitioned() -> dg.MaterializeResult:
    return dg.MaterializeResult(metadata={"dagster/row_count": 9, "dagster/partition_row_count": 2})


@dg.asset(retry_policy=dg.RetryPolicy(max_retries=2))
def flaky(context: dg.AssetExecutionContext) -> None:
    if context.retry_number < 2:
        raise ConnectionError("the API is not there; token=hunter2hunter2")


@dg.asset
def broken() -> None:
    raise ValueError("no such customer")


@dg.asset(deps=[broken])
def below() -> None:
    pass


class Refusing(dg.IOManager):
    def handle_output(self, context: dg.OutputContext, obj: object) -> None:
        raise OSError("the disk is full")

    def load_input(self, context: dg.InputContext) -> object:
        raise OSError("the file is gone")


@dg.asset(io_manager_def=Refusing())
def unwritten() -> int:
    return 1


@dg.asset(ins={"plain": dg.AssetIn(input_manager_key="gone")}, resource_defs={"gone": Refusing()})
def unread(plain: str) -> None:
    pass


@dg.asset_check(asset=plain, blocking=True)
def strict() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=False, description="too short")


@dg.op(out=dg.DynamicOut())
def pages() -> Iterator[dg.DynamicOutput]:
    for page in ("x", "y"):
        yield dg.DynamicOutput(page, mapping_key=page)


@dg.op
def mail(page: str) -> None:
    print("MAIL", page, current())


@dg.job
def mails() -> None:
    pages().map(mail)


GOOD = ("plain", "loads", "coroutine", "first", "second", "third", "graph", "flaky")
good = dg.define_asset_job("good", dg.AssetSelection.assets(*GOOD).without_checks())
subset = dg.define_asset_job("subset", dg.AssetSelection.assets("second") | dg.AssetSelection.checks(strict))
bad = dg.define_asset_job("bad", ["broken", "below"])
full = dg.define_asset_job("full", "unwritten")
gone = dg.define_asset_job("gone", dg.AssetSelection.assets("plain", "unread").without_checks())
parts = dg.define_asset_job("parts", "partitioned")
"""
MANY = """
import dagster as dg


def make(number: int) -> dg.AssetsDefinition:
    @dg.asset(name=f"small_{number}")
    def small() -> None:
        pass

    return small


smalls = [make(number) for number in range(12)]
many = dg.define_asset_job("many", dg.AssetSelection.assets(*smalls))
"""


@pytest.fixture(scope="module")
def folder(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the sample project with an ingestion, an export, and every kind of Python step."""
    return runs.copy(
        project, tmp_path_factory.mktemp("python") / "project", DBT, pipeline=PIPELINE, kinds=KINDS, many=MANY,
        jobs='import dagster as dg\nwhole = dg.define_asset_job("whole", dg.AssetSelection.assets('
        '["api", "payments"], "paid", "export"))\n',
    )  # fmt: skip


@pytest.fixture(scope="module", params=["in_process", "spawn"])
def whole(folder: Path, request: pytest.FixtureRequest) -> Run:
    """Return a run from file to export, in one process and in one process per step."""
    config = runs.IN_PROCESS if request.param == "in_process" else runs.multiprocess(request.param)
    return runs.launch(folder, "whole", config)


@pytest.fixture(scope="module")
def good(folder: Path) -> Run:
    """Return a run of every kind of function."""
    return runs.launch(folder, "good")


def ends(run: Run) -> dict[str, list[dict[str, Any]]]:
    """Return the last event of each run by the name of its job."""
    found: dict[str, list[dict[str, Any]]] = {}
    for event in run.events:
        if event["eventType"] != "START":
            found.setdefault(event["job"]["name"], []).append(event)
    return found


def end(run: Run, job: str) -> dict[str, Any]:
    """Return the only end of a job."""
    (event,) = ends(run)[job]
    return event


def names(datasets: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Return the identities of datasets."""
    return [(dataset["namespace"], dataset["name"]) for dataset in datasets]


def child_names(run: Run, parent: Span) -> list[str]:
    """Return the names of the spans below a span."""
    return sorted(span.name for span in run.spans if span.parent_span_id == parent.span_id)


def test_one_trace(whole: Run) -> None:
    """Every step is in the run's one trace, with its asset or check, and the spans of libraries below the asset."""
    root = whole.span("run whole")
    steps = ["step api__payments", "step api__payments_positive", "step dbt_models", "step export"]

    assert {whole.trace_id} == {span.trace_id.hex() for span in whole.spans}
    assert steps == child_names(whole, root)
    assert ["asset api/payments"] == child_names(whole, whole.span(steps[0]))
    assert ["GET /payments"] == child_names(whole, whole.span("asset api/payments"))
    assert ["check api/payments:positive"] == child_names(whole, whole.span(steps[1]))
    assert ["dbt"] == child_names(whole, whole.span(steps[2]))
    assert ["asset export", "check export:written"] == child_names(whole, whole.span(steps[3]))
    assert {"api.pages": 3, "dagster.asset.row_count": 5, "dagster.asset.key": "api/payments"}.items() <= attributes(
        whole.span("asset api/payments")
    ).items()
    assert 0 == root.status.code
    assert all(
        root.start_time_unix_nano <= span.start_time_unix_nano <= span.end_time_unix_nano <= root.end_time_unix_nano
        for span in whole.spans
    )


def test_documented(whole: Run) -> None:
    """The attributes of assets and checks are those in the documentation."""
    documented = table(whole.project / "docs" / "tracing.md")
    spans = [span for span in whole.spans if level(span) in {"step", "asset", "check"}]
    found = {(name, level(span)) for span in spans for name in attributes(span)} - {("api.pages", "asset")}

    assert set() == found - documented
    assert {name for name, on in documented if on in {"asset", "check"} and name.startswith("dagster.asset")} == {
        name for name, on in found if on in {"asset", "check"} and name.startswith("dagster.asset")
    }


def test_one_graph(whole: Run) -> None:
    """The file, the ingested table, dbt's model and the exported file are one connected graph."""
    edges: dict[tuple[str, str], set[tuple[str, str]]] = {}
    for event in whole.events:
        for source in names(event["inputs"]):
            edges.setdefault(source, set()).update(names(event["outputs"]))
    reached, waiting = set(), [("s3://shop", "api/payments.json")]
    while waiting:
        dataset = waiting.pop()
        if dataset not in reached:
            reached.add(dataset)
            waiting += edges.get(dataset, ())
    warehouse = f"duckdb://{whole.project}/local/warehouse.duckdb"

    assert {
        ("s3://shop", "api/payments.json"),
        (warehouse, "warehouse.api.payments"),
        (warehouse, "warehouse.main.paid"),
        ("file", f"{whole.project}/local/export.csv"),
    } == reached


def test_facts(whole: Run) -> None:
    """A step's end has what the asset says of itself, and nothing is left out or lost."""
    (output,) = end(whole, "asset.pipeline.api__payments")["outputs"]
    facets = output["facets"]

    assert [("id", "BIGINT"), ("amount", "BIGINT")] == [(f["name"], f["type"]) for f in facets["schema"]["fields"]]
    assert ["team:ingestion"] == [owner["name"] for owner in facets["ownership"]["owners"]]
    assert "Payments of the shop." == facets["documentation"]["description"]
    assert 5 == output["outputFacets"]["outputStatistics"]["rowCount"]
    (exported,) = end(whole, "asset.pipeline.export")["outputs"]
    (column,) = end(whole, "model.pipeline.paid")["outputs"][0]["facets"]["columnLineage"]["fields"]["id"][
        "inputFields"
    ]
    assert ("warehouse.api.payments", "id") == (column["name"], column["field"])  # behind `select *`
    (field,) = exported["facets"]["columnLineage"]["fields"]["total"]["inputFields"]
    assert ("warehouse.main.paid", "total") == (field["name"], field["field"])
    assert not [event for event in whole.events if "extractionError" in event["run"]["facets"]]
    assert "detail lost" not in str(whole.tags)


def test_checks(whole: Run) -> None:
    """An asset check is an assertion about its asset, which its run reads, in a step of its own or in the asset's."""
    own, within = (end(whole, f"asset_check.pipeline.{name}") for name in ("api__payments_positive", "export.written"))

    assert ["COMPLETE", "COMPLETE"] == [own["eventType"], within["eventType"]]
    for event, success, severity in ((own, False, "warn"), (within, True, "error")):
        (dataset,) = event["inputs"]
        (assertion,) = dataset["inputFacets"]["dataQualityAssertions"]["assertions"]
        assert (success, severity) == (assertion["success"], assertion["severity"])
        assert [] == event["outputs"]
    assert end(whole, "asset.pipeline.export")["run"]["runId"] == within["run"]["facets"]["parent"]["run"]["runId"]
    assert "step" not in str(whole.span("check api/payments:positive").status)


def test_parents(whole: Run) -> None:
    """Each run has one start and one end; a step's parent is Dagster's run."""
    runs_of = Counter((event["run"]["runId"], event["eventType"] == "START") for event in whole.events)
    facets = end(whole, "asset.pipeline.export")["run"]["facets"]

    assert {1} == set(runs_of.values())
    assert 2 * len({run for run, _ in runs_of}) == len(runs_of)
    assert whole.run_id == facets["parent"]["run"]["runId"] == facets["parent"]["root"]["run"]["runId"]
    assert "dagster" == facets["processing_engine"]["name"]
    assert "COMPLETE" == end(whole, "whole")["eventType"]


def test_logs(whole: Run) -> None:
    """The lines of the standard library and of structlog have the ids of the span that they are in."""
    lines = [line for line in whole.lines if line["event"] in {"standard line", "structlog line"}]
    span = whole.span("GET /payments")

    assert 2 == len(lines)
    for line in lines:
        assert (whole.run_id, whole.trace_id, span.span_id.hex()) == (
            line["run_id"],
            line["trace_id"],
            line["span_id"],
        )
        assert "api__payments" == line["step_key"]


def test_kinds(good: Run) -> None:
    """Functions, coroutines and generators of both kinds run within their spans; those of graphs as well."""
    span_names = {span.name for span in good.spans}

    assert {"asset plain", "asset coroutine", "asset first", "asset second", "asset third"} <= span_names
    assert {"step graph.inner", "step graph.outer", "asset graph", "step flaky"} <= span_names
    assert "PLAIN asset plain" in good.output
    assert {"COMPLETE"} == {end(good, f"asset.pipeline.{name}")["eventType"] for name in ("plain", "graph.inner")}
    assert [("s3://bucket", "first"), ("s3://bucket", "second")] == names(
        end(good, "asset.pipeline.generator")["outputs"]
    )


def test_io_manager(good: Run) -> None:
    """The file that an I/O manager has written is what the next asset reads."""
    (written,) = names(end(good, "asset.pipeline.plain")["outputs"])

    assert "file" == written[0]
    assert Path(written[1]).is_file()
    assert [written] == names(end(good, "asset.pipeline.loads")["inputs"])
    assert [written] == names(end(good, "asset.pipeline.generator")["inputs"])


def test_unknown(good: Run) -> None:
    """An asset that does not say where it is has no dataset, which is counted with the way out."""
    event = end(good, "asset.pipeline.async_generator")
    errors = event["run"]["facets"]["extractionError"]["errors"]

    assert [] == event["outputs"]
    assert ["outputs"] == [error["task"] for error in errors]
    assert "asset third" in errors[0]["errorMessage"]
    assert "dagster/uri" in errors[0]["errorMessage"]


def test_retries(good: Run) -> None:
    """Each attempt has its span and its run; its error is the exception's, without secrets."""
    attempts = [span for span in good.spans if span.name == "step flaky"]
    events = ends(good)["asset.pipeline.flaky"]

    assert ["FAIL", "FAIL", "COMPLETE"] == [event["eventType"] for event in events]
    assert 3 == len({event["run"]["runId"] for event in events})
    assert [2, 2, 0] == [span.status.code for span in attempts]
    assert ["ConnectionError"] * 2 == [attributes(span)["error.type"] for span in attempts[:2]]
    assert "the API is not there" in events[0]["run"]["facets"]["errorMessage"]["message"]
    assert "PYTHON" == events[0]["run"]["facets"]["errorMessage"]["programmingLanguage"]
    assert 0 == good.span("run good").status.code


def test_failure(folder: Path) -> None:
    """A step that fails ends as failed, and so does the run; what Dagster skips for it has no span."""
    run = runs.launch(folder, "bad")

    assert "FAIL" == end(run, "asset.pipeline.broken")["eventType"] == end(run, "bad")["eventType"]
    assert "no such customer" == end(run, "bad")["run"]["facets"]["errorMessage"]["message"]
    for name in ("step broken", "asset broken", "run bad"):
        assert ("ValueError", 2) == (attributes(run.span(name))["error.type"], run.span(name).status.code)
    assert not [span for span in run.spans if span.name == "step below"]


def test_output_is_refused(folder: Path) -> None:
    """A step whose output cannot be stored has failed, and claims no output."""
    run = runs.launch(folder, "full")
    event = end(run, "asset.pipeline.unwritten")

    assert ("FAIL", []) == (event["eventType"], event["outputs"])
    assert "the disk is full" == event["run"]["facets"]["errorMessage"]["message"]


def test_partition(folder: Path) -> None:
    """A partition is named in the run; its row count is not that of the whole table."""
    run = runs.launch(folder, "parts", tags={"dagster/partition": "b"})
    event = end(run, "asset.pipeline.partitioned")
    (output,) = event["outputs"]

    assert "warehouse.main.of_partition" == output["name"]
    assert 2 == output["outputFacets"]["outputStatistics"]["rowCount"]
    assert {"partition": "b"} == {
        parameter["key"]: parameter["value"]
        for parameter in event["run"]["facets"]["executionParameters"]["parameters"]
    }
    assert "b" == attributes(run.span("step partitioned"))["dagster.partition_key"]


def test_ops(folder: Path) -> None:
    """The ops of a job have jobs of their own; those of a dynamic output share one."""
    run = runs.launch(folder, "mails")

    assert 2 == len(ends(run)["op.mails.mail"])
    assert ["step mail[x]", "step mail[y]", "step pages"] == child_names(run, run.span("run mails"))
    assert {"MAIL x step mail[x]", "MAIL y step mail[y]"} <= set(re.findall(r"^MAIL .*$", run.output, re.MULTILINE))


def test_subset(folder: Path) -> None:
    """Of a step's assets, only those that are selected are inputs and outputs; a strict check reports its failure."""
    run = runs.launch(folder, "subset")
    check = end(run, "asset_check.pipeline.plain_strict")

    assert [("s3://bucket", "second")] == names(end(run, "asset.pipeline.generator")["outputs"])
    assert [] == end(run, "asset.pipeline.generator")["inputs"]
    assert "fail" == check["run"]["facets"]["test"]["tests"][0]["status"]
    assert 2 == run.span("check plain:strict").status.code


@pytest.mark.parametrize("answer", ["refused", "silent"])
def test_dead_endpoint(folder: Path, answer: str) -> None:
    """Twelve steps in twelve processes wait no longer than one for a receiver that is dead, and lose nothing."""
    with socket.socket() as listener:  # it accepts connections and never answers, or is closed
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        if answer == "silent":
            listener.listen(512)
        else:
            listener.close()
        state = folder.parent / f"state_{answer}"
        url = f"http://127.0.0.1:{port}"
        run = runs.launch(
            folder,
            "many",
            runs.multiprocess("spawn"),
            protocol=None,
            OPENLINEAGE_URL=url,
            OTEL_EXPORTER_OTLP_ENDPOINT=url,
            FLOE_STATE_DIR=str(state),
        )
    waits = [float(line) for line in next((state / "budgets").glob("*.seconds")).read_text().split()]

    assert sum(waits) < 3.0 * 2 + 1  # two processes at once may both be the first
    assert "26 spooled" == run.tags["floe/lineage"]
    assert "25 spooled" == run.tags["floe/traces"] or "13 spooled" in run.tags["floe/traces"]
    assert 1 <= sum("floe doctor" in line["event"] and line["level"] == "warning" for line in run.lines) <= 2


def test_off(folder: Path) -> None:
    """Without an endpoint, a Python step has neither tags nor lines of ours, and its lines have its ids."""
    run = runs.launch(folder, "bad", protocol=None)

    assert not [tag for tag in run.tags if tag.startswith("floe/")]
    assert not [line for line in run.lines if "lineage:" in line["event"]]
    assert "broken" in {line.get("step_key") for line in run.lines}
    assert json.dumps(run.tags)
