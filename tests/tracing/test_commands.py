"""Several dbt commands in a step, and steps that end in every way: what lineage, traces and tags make of them."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from tests.rendering import render
from tests.tracing import runs
from tests.tracing.runs import Run, attributes

pytestmark = pytest.mark.xdist_group("commands")

# In the place of defs/dbt.py: a job for each way in which a step can run dbt, and end.
ASSETS = """
import os
from collections.abc import Iterator
from typing import Any

import dagster as dg
from dagster_dbt import DbtCliResource, dbt_assets

from ..floe.manifest import load_manifest
from ..floe.run import observe
from ..floe.translator import FloeTranslator
from ..project import dbt_project

COMMON = {"manifest": load_manifest(dbt_project), "project": dbt_project, "dagster_dbt_translator": FloeTranslator()}
ONE, TWO = ["run", "--exclude", "two"], ["run", "--exclude", "one"]


def break_two(broken: bool) -> None:
    os.environ["BREAK"] = "1" if broken else ""


def kept(iterator: Any, context: Any) -> Any:
    context.log.kept = iterator  # as a traceback keeps it
    return iterator


def commands(context: dg.AssetExecutionContext, dbt: DbtCliResource) -> Iterator[Any]:
    way = context.job_name
    break_two(way in {"second_fails", "swallowed", "retried"} or (way == "flaky" and context.retry_number == 0))
    if way in {"second_fails", "both", "flaky", "fails_after"}:
        yield from observe(dbt, ONE, context)
        yield from observe(dbt, TWO, context)
        if way == "fails_after":
            raise ValueError("after the last command")
    elif way == "swallowed":
        try:
            yield from observe(dbt, TWO, context)
        except Exception as error:
            context.log.info(f"swallowed {type(error)}")
        yield from observe(dbt, ONE, context)
    elif way == "retried":
        yield from observe(dbt, ["run"], context, raise_on_error=False)
        break_two(False)
        yield from observe(dbt, ["retry"], context)
    elif way == "consumer_raises":
        for event in kept(observe(dbt, ["run"], context), context):
            yield event
            raise ValueError("between two events")
    elif way == "dagster_raises":
        for event in kept(observe(dbt, ["run"], context), context):
            yield event
            yield dg.Output(1, output_name="no_such_output")
    elif way == "consumer_stops":
        for event in kept(observe(dbt, ["run"], context), context):
            yield event
            break
    elif way == "other_commands":
        yield from observe(dbt, ["run-operation", "ping"], context)
        yield from observe(dbt, ["run"], context)
        yield from observe(dbt, ["source", "freshness"], context)
        yield from observe(dbt, ["--no-use-colors", "run-operation", "no_such_macro"], context, raise_on_error=False)
    else:
        yield from observe(dbt, ["run"], context)


days = dg.DailyPartitionsDefinition("2026-01-01")


@dbt_assets(**COMMON, name="models", select="one two")
def models(context: dg.AssetExecutionContext, dbt: DbtCliResource) -> Iterator[Any]:
    yield from commands(context, dbt)


@dbt_assets(**COMMON, name="daily", select="daily_model", partitions_def=days,
            backfill_policy=dg.BackfillPolicy.single_run())
def daily(context: dg.AssetExecutionContext, dbt: DbtCliResource) -> Iterator[Any]:
    yield from observe(dbt, ["run"], context)


@dg.asset
def plain(context: dg.AssetExecutionContext, dbt: DbtCliResource) -> None:
    list(observe(dbt, ["run-operation", "ping"], context))


@dg.asset(deps=["one", "two"])
def last(context: dg.AssetExecutionContext) -> None:
    if context.job_name == "last_fails":
        raise ValueError("no dbt here")


@dg.op(required_resource_keys={"dbt"})
def ping(context: dg.OpExecutionContext) -> None:
    list(observe(context.resources.dbt, ["run-operation", "ping"], context))


@dg.job
def op_job() -> None:
    ping()


WAYS = ["both", "second_fails", "fails_after", "swallowed", "retried", "consumer_raises", "dagster_raises",
        "consumer_stops", "other_commands"]
globals().update({way: dg.define_asset_job(way, dg.AssetSelection.assets("one", "two")) for way in WAYS})
flaky = dg.define_asset_job(
    "flaky", dg.AssetSelection.assets("one", "two"), op_retry_policy=dg.RetryPolicy(max_retries=1)
)
asset_job = dg.define_asset_job("asset_job", dg.AssetSelection.assets("plain"))
range_job = dg.define_asset_job("range_job", dg.AssetSelection.assets("daily_model"))
steps = dg.define_asset_job("steps", dg.AssetSelection.assets("one", "two", "plain"))
last_ok = dg.define_asset_job("last_ok", dg.AssetSelection.assets("one", "two", "last"))
"""
FILES = {
    "models/one.sql": "select 1 as a",
    "models/two.sql": "select {{ 'no_such_column' if env_var('BREAK', '') else 'a' }} as b from {{ ref('one') }}",
    "models/daily_model.sql": "select 1 as a",
    "macros/ping.sql": "{% macro ping() %}{% do run_query('select 1') %}{% endmacro %}",
    "models/sources.yml": """
sources:
  - name: raw
    schema: main
    tables:
      - name: landed
        identifier: one
        config:
          loaded_at_field: cast(now() as timestamp)
          freshness: {warn_after: {count: 1, period: day}}
""",
}


@pytest.fixture(scope="module")
def steps(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a project with three small models and the jobs."""
    folder = tmp_path_factory.mktemp("commands")
    made = render(template, folder / "rendered", project_name="pipeline", start_from="empty")
    (made / "dbt" / "macros").mkdir(exist_ok=True)
    return runs.copy(made, folder / "project", FILES, dbt=ASSETS)


def launch(project: Path, job: str, config: dict[str, Any] = runs.IN_PROCESS, **more: Any) -> Run:
    """Launch a job with lineage."""
    return runs.launch(project, job, config, lineage=True, **more)


def ends(run: Run) -> dict[str, list[list[str]]]:
    """Return the states that each job has sent, for each of its runs in order of their starts."""
    states: dict[tuple[str, str], list[str]] = defaultdict(list)
    for event in run.events:
        states[event["job"]["name"], event["run"]["runId"]].append(event["eventType"])
    found: dict[str, list[list[str]]] = defaultdict(list)
    for (job, _), told in states.items():
        found[job].append(told)
    return dict(found)


def errors(run: Run) -> dict[str, str]:
    """Return the last error message of each job."""
    messages = ((event["job"]["name"], event["run"]["facets"].get("errorMessage")) for event in run.events)
    return {job: facet["message"] for job, facet in messages if facet}


def positions(run: Run, job: str, state: str) -> list[int]:
    """Return where in the order of arrival events of a job stand."""
    return [i for i, event in enumerate(run.events) if (event["job"]["name"], event["eventType"]) == (job, state)]


OK, FAILED, ABORTED = (["START", end] for end in ("COMPLETE", "FAIL", "ABORT"))
EXECUTORS = {
    "in process": runs.IN_PROCESS,
    "spawn": runs.multiprocess("spawn"),
    "forkserver": runs.multiprocess("forkserver"),
}


@pytest.mark.parametrize("executor", EXECUTORS)
def test_second_fails(steps: Path, executor: str) -> None:
    """The run ends once, after its last command, with the outcome of the step; span and tags are of all commands."""
    run = launch(steps, "second_fails", EXECUTORS[executor])

    assert {
        "second_fails": [FAILED],
        "dbt.pipeline": [OK, FAILED],
        "model.pipeline.one": [OK],
        "model.pipeline.two": [FAILED],
    } == ends(run)
    assert positions(run, "second_fails", "FAIL") == [len(run.events) - 1]
    assert Status.STATUS_CODE_ERROR == run.span("run second_fails").status.code
    assert Status.STATUS_CODE_ERROR == run.span("step models").status.code
    assert {"floe/lineage": f"{len(run.events)} sent", "floe/traces": f"{len(run.spans)} sent"}.items() <= (
        run.tags.items()
    )


def test_both(steps: Path) -> None:
    """Two commands that end well are two spans below one span of their step, which all lines of the step name."""
    run = launch(steps, "both")
    step = run.span("step models")

    assert [OK] == ends(run)["both"]
    assert [OK, OK] == ends(run)["dbt.pipeline"]
    assert {step.span_id: 2} == Counter(span.parent_span_id for span in run.spans if span.name == "dbt")
    assert {step.span_id.hex()} == {
        line["span_id"] for line in run.lines if line["event"].startswith(("Finished dbt", "lineage: "))
    }
    assert 0 == run.span("run both").status.code
    assert step.end_time_unix_nano >= max(span.end_time_unix_nano for span in run.spans if span.name == "dbt")


def test_fails_after(steps: Path) -> None:
    """An asset that fails after its last command fails the run, and says why."""
    run = launch(steps, "fails_after", EXECUTORS["spawn"])

    assert ([FAILED], [OK, OK]) == (ends(run)["fails_after"], ends(run)["dbt.pipeline"])
    assert "after the last command" == errors(run)["fails_after"]
    assert "after the last command" == run.span("run fails_after").status.message


def test_swallowed(steps: Path) -> None:
    """An asset that handles the failure of a command ends as Dagster says; the command has failed."""
    run = launch(steps, "swallowed")

    assert ([OK], [FAILED, OK]) == (ends(run)["swallowed"], ends(run)["dbt.pipeline"])
    assert 0 == run.span("run swallowed").status.code


def test_retried(steps: Path) -> None:
    """`dbt retry` repeats the command before it: its nodes have their own ends, not those of the first attempt."""
    run = launch(steps, "retried")

    assert {
        "retried": [OK],
        "dbt.pipeline": [FAILED, OK],
        "model.pipeline.one": [OK],
        "model.pipeline.two": [FAILED, OK],
    } == ends(run)
    statuses = [attributes(span)["dbt.status"] for span in run.spans if span.name == "model.pipeline.two"]
    assert ["error", "success"] == statuses
    assert re_materialized(run, "two")


def re_materialized(run: Run, asset: str) -> bool:
    """Say whether Dagster has the asset as built."""
    return any(f"Materialized value {asset}" in line["event"] for line in run.lines) or "RUN" in run.output


@pytest.mark.parametrize("config", ["in process", "spawn"])
def test_flaky(steps: Path, config: str) -> None:
    """Dagster's second attempt ends the run, not the first; tags count both."""
    run = launch(steps, "flaky", EXECUTORS[config])

    assert [OK] == ends(run)["flaky"]
    assert [OK, FAILED, OK, OK] == ends(run)["dbt.pipeline"]
    assert positions(run, "flaky", "COMPLETE") == [len(run.events) - 1]
    assert f"{len(run.events)} sent" == run.tags["floe/lineage"]
    assert f"{len(run.spans)} sent" == run.tags["floe/traces"]
    assert 0 == run.span("run flaky").status.code


@pytest.mark.parametrize(
    ("way", "outcome", "cause"),
    [
        ("consumer_raises", FAILED, "between two events"),
        ("dagster_raises", FAILED, "no_such_output"),
        ("consumer_stops", OK, "The asset ended without reading all events of this dbt command."),
    ],
)
@pytest.mark.parametrize("executor", ["in process", "spawn"])
def test_between_events(steps: Path, way: str, outcome: list[str], cause: str, executor: str) -> None:
    """A command whose events nobody reads any more ends with the step, and says why."""
    run = launch(steps, way, EXECUTORS[executor])

    assert {"START"} != {event["eventType"] for event in run.events}
    assert ([outcome], [ABORTED]) == (ends(run)[way], ends(run)["dbt.pipeline"])
    assert {1} == {len(told) for told in ends(run).values()}
    assert {2} == {len(states) for told in ends(run).values() for states in told}
    assert cause in errors(run)["dbt.pipeline"]
    assert cause in run.span("dbt").status.message
    assert not list((steps / ".floe" / "lineage").glob(f"{run.run_id}*"))


def test_other_commands(steps: Path) -> None:
    """Commands that take no selection get none, freshness finds its sources, and each has its own end."""
    run = launch(steps, "other_commands")

    assert {
        "other_commands": [OK],
        "dbt.pipeline": [OK, OK, OK, FAILED],
        "model.pipeline.one": [OK],
        "model.pipeline.two": [OK],
        "source.pipeline.raw.landed": [OK],
    } == ends(run)
    assert "no_such_macro" in errors(run)["dbt.pipeline"]
    assert ["dbt", "dbt", "dbt", "dbt"] == [span.name for span in run.spans if span.name == "dbt"]
    assert {"model.pipeline.one", "model.pipeline.two", "source.pipeline.raw.landed"} == {
        span.name for span in run.spans if "." in span.name
    }


@pytest.mark.parametrize("job", ["op_job", "asset_job"])
def test_without_dbt_assets(steps: Path, job: str) -> None:
    """An op, or an asset that dbt does not make, runs a command that builds nothing."""
    run = launch(steps, job)

    assert {job: [OK], "dbt.pipeline": [OK]} == ends(run)
    assert 0 == run.span(f"run {job}").status.code


@pytest.mark.parametrize("executor", ["in process", "spawn"])
def test_steps(steps: Path, executor: str) -> None:
    """Of several steps with dbt the one that ends last ends the run; tags count all of them."""
    run = launch(steps, "steps", EXECUTORS[executor] if executor == "in process" else one_at_a_time())

    assert [OK] == ends(run)["steps"]
    assert f"{len(run.events)} sent" == run.tags["floe/lineage"]
    assert f"{len(run.spans)} sent" == run.tags["floe/traces"]


def one_at_a_time() -> dict[str, Any]:
    """Return a configuration with a process a step; DuckDB has one writer."""
    config = runs.multiprocess("spawn")
    config["execution"]["config"]["multiprocess"]["max_concurrent"] = 1
    return config


def test_last_without_dbt(steps: Path) -> None:
    """While a step without dbt is left nobody knows the end of the run: lineage tells none."""
    run = launch(steps, "last_ok")

    assert "last_ok" not in ends(run)
    assert 0 == run.span("run last_ok").status.code


def test_range(steps: Path) -> None:
    """A range of partitions stands in tags and attributes, with its window."""
    first, last = "2026-01-02", "2026-01-04"
    tags = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
    run = launch(steps, "range_job", tags=tags)

    facets = [event["run"]["facets"] for event in run.events if event["job"]["name"] == "range_job"]
    assert [tags] * 2 == [
        {tag["key"]: tag["value"] for tag in each["tags"]["tags"] if tag["source"] == "DAGSTER"} for each in facets
    ]
    assert {("2026-01-02T00:00:00+00:00", "2026-01-05T00:00:00+00:00")} == {
        (each["nominalTime"]["nominalStartTime"], each["nominalTime"]["nominalEndTime"]) for each in facets
    }
    for span in run.spans:
        said = attributes(span)
        assert (first, last) == (said["dagster.partition_key_range.start"], said["dagster.partition_key_range.end"])
        assert "dagster.partition_key" not in said
