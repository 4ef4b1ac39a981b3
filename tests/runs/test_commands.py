"""Several dbt commands in a step, and steps that end in every way: what lineage, traces and tags make of them."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tools import runs
from tools.rendering import render
from tools.runs import Run, attributes

pytestmark = pytest.mark.xdist_group("commands")

# In the place of defs/dbt.py: a job for each way in which a step can run dbt, and end.
ASSETS = """
import os
from collections.abc import Iterator
from typing import Any

import dagster as dg
from dagster_dbt import DbtCliResource, dbt_assets

from ..floe.run import FloeTranslator, load_manifest, observe
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
    elif way == "unread":
        # It runs beside the next command, and DuckDB lets only one process at a time open the file.
        context.log.kept = observe(dbt, ["parse"], context)
        yield from observe(dbt, ["run"], context)
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
        "consumer_stops", "unread", "other_commands"]
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


# Run as `python jobs.py JOBS TAGS`: all jobs in one process, which is cheaper than a process for each.
IN_ONE_PROCESS = """
import json
import sys

import dagster as dg
from pipeline.definitions import defs

with dg.DagsterInstance.get() as instance:
    tags = json.loads(sys.argv[3])
    for name in sys.argv[1].split():
        job = defs().resolve_job_def(name)
        result = job.execute_in_process(instance=instance, tags=tags.get(name), raise_on_error=False)
        found = dict(instance.get_run_by_id(result.run_id).tags)
        print("JOB", json.dumps({"name": name, "run_id": result.run_id, "tags": found}), flush=True)
"""
RANGE = {
    "dagster/asset_partition_range_start": "2026-01-02",
    "dagster/asset_partition_range_end": "2026-01-04",
}
JOBS = [
    "both",
    "fails_after",
    "swallowed",
    "retried",
    "flaky",
    "consumer_raises",
    "dagster_raises",
    "consumer_stops",
    "unread",
    "other_commands",
    "op_job",
    "asset_job",
    "steps",
    "last_ok",
    "range_job",
]
OK, FAILED, ABORTED = (["START", end] for end in ("COMPLETE", "FAIL", "ABORT"))


@dataclass
class Told:
    """What lineage, traces, tags and log have of a run."""

    name: str
    run_id: str
    tags: Mapping[str, str]
    events: list[dict[str, Any]]
    spans: list[Span]
    lines: list[dict[str, Any]]

    @property
    def ends(self) -> dict[str, list[list[str]]]:
        """Return the states that each job has sent, for each of its runs in order of their starts."""
        states: dict[tuple[str, str], list[str]] = defaultdict(list)
        for event in self.events:
            states[event["job"]["name"], event["run"]["runId"]].append(event["eventType"])
        grouped: dict[str, list[list[str]]] = defaultdict(list)
        for (job, _), sent in states.items():
            grouped[job].append(sent)
        return dict(grouped)

    @property
    def errors(self) -> dict[str, str]:
        """Return the last error message of each job."""
        messages = ((event["job"]["name"], event["run"]["facets"].get("errorMessage")) for event in self.events)
        return {job: facet["message"] for job, facet in messages if facet}

    @property
    def sent(self) -> dict[str, str]:
        """Return what the run's tags say if all has arrived."""
        return {"floe/lineage": f"{len(self.events)} sent", "floe/traces": f"{len(self.spans)} sent"}

    @property
    def last(self) -> tuple[str, str]:
        """Return job and state of the event that came last."""
        return self.events[-1]["job"]["name"], self.events[-1]["eventType"]

    def span(self, name: str) -> Span:
        """Return the one span of that name."""
        (span,) = (span for span in self.spans if span.name == name)
        return span


@pytest.fixture(scope="module")
def made(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a project with three small models and the jobs."""
    folder = tmp_path_factory.mktemp("commands")
    rendered = render(template, folder / "rendered", project_name="pipeline", start_from="empty")
    (rendered / "dbt" / "macros").mkdir(exist_ok=True)
    return runs.copy(rendered, folder / "project", FILES, dbt=ASSETS)


@pytest.fixture(scope="module")
def told(made: Path) -> dict[str, Told]:
    """Return what is told of each job, run in one process."""
    launcher = made / "launch.py"
    before = launcher.read_text()
    launcher.write_text(IN_ONE_PROCESS)
    run = runs.launch(made, " ".join(JOBS), lineage=True, tags={"range_job": RANGE})  # type: ignore[dict-item]
    launcher.write_text(before)
    jobs = [json.loads(text) for text in re.findall(r"^JOB (.+)$", run.output, re.MULTILINE)]
    assert JOBS == [job["name"] for job in jobs], run.output[-5000:]
    return {job["name"]: part(run, job["name"], job["run_id"], job["tags"]) for job in jobs}


def part(run: Run, name: str, run_id: str, tags: Mapping[str, str]) -> Told:
    """Return what is told of one of the Dagster runs of a process."""
    trace_id = run_id.replace("-", "")
    return Told(
        name,
        run_id,
        tags,
        [event for event in run.events if run_id in (event["run"]["runId"], root(event))],
        [span for span in run.spans if span.trace_id.hex() == trace_id],
        [line for line in run.lines if line.get("trace_id") == trace_id],
    )


def root(event: Mapping[str, Any]) -> str | None:
    """Return the id of the run at the root of an event's."""
    parent = event["run"]["facets"].get("parent")
    return parent["root"]["run"]["runId"] if parent else None


def launch(project: Path, job: str, start_method: str) -> Told:
    """Launch a job with a process for each step, one after the other, as DuckDB has one writer."""
    config = runs.multiprocess(start_method)
    config["execution"]["config"]["multiprocess"]["max_concurrent"] = 1
    run = runs.launch(project, job, config, lineage=True)
    return part(run, job, run.run_id, run.tags)


@pytest.mark.parametrize("start_method", ["spawn", "forkserver"])
def test_second_fails(made: Path, start_method: str) -> None:
    """The run ends once, after its last command, with the outcome of the step; span and tags are of all commands."""
    run = launch(made, "second_fails", start_method)

    assert {
        "second_fails": [FAILED],
        "dbt.pipeline": [OK, FAILED],
        "model.pipeline.one": [OK],
        "model.pipeline.two": [FAILED],
    } == run.ends
    assert ("second_fails", "FAIL") == run.last
    assert Status.STATUS_CODE_ERROR == run.span("run second_fails").status.code
    assert Status.STATUS_CODE_ERROR == run.span("step models").status.code
    assert run.sent.items() <= run.tags.items()


def test_both(told: dict[str, Told]) -> None:
    """Two commands that end well are two spans below one span of their step, which all lines of the step name."""
    run = told["both"]
    step = run.span("step models")

    assert ([OK], [OK, OK]) == (run.ends["both"], run.ends["dbt.pipeline"])
    assert ("both", "COMPLETE") == run.last
    assert {step.span_id: 2} == Counter(span.parent_span_id for span in run.spans if span.name == "dbt")
    assert {step.span_id.hex()} == {
        line["span_id"] for line in run.lines if line["event"].startswith(("Finished dbt", "lineage: "))
    }
    assert 0 == run.span("run both").status.code
    assert step.end_time_unix_nano >= max(span.end_time_unix_nano for span in run.spans if span.name == "dbt")
    assert run.sent.items() <= run.tags.items()


def test_fails_after(told: dict[str, Told]) -> None:
    """An asset that fails after its last command fails the run, and says why."""
    run = told["fails_after"]

    assert ([FAILED], [OK, OK]) == (run.ends["fails_after"], run.ends["dbt.pipeline"])
    assert "after the last command" == run.errors["fails_after"]
    assert "after the last command" == run.span("run fails_after").status.message


def test_swallowed(told: dict[str, Told]) -> None:
    """An asset that handles the failure of a command ends as Dagster says; the command has failed."""
    run = told["swallowed"]

    assert ([OK], [FAILED, OK]) == (run.ends["swallowed"], run.ends["dbt.pipeline"])
    assert 0 == run.span("run swallowed").status.code


def test_retried(told: dict[str, Told]) -> None:
    """`dbt retry` repeats the command before it: its nodes have their own ends, not those of the first attempt."""
    run = told["retried"]

    assert {
        "retried": [OK],
        "dbt.pipeline": [FAILED, OK],
        "model.pipeline.one": [OK],
        "model.pipeline.two": [FAILED, OK],
    } == run.ends
    statuses = [attributes(span)["dbt.status"] for span in run.spans if span.name == "model.pipeline.two"]
    assert ["error", "success"] == statuses


def check_flaky(run: Told) -> None:
    """Check that the second attempt ended the run, and that tags count both."""
    assert [OK] == run.ends["flaky"]
    assert [OK, FAILED, OK, OK] == run.ends["dbt.pipeline"]
    assert ("flaky", "COMPLETE") == run.last
    assert run.sent.items() <= run.tags.items()
    assert 0 == run.span("run flaky").status.code
    assert 2 == len([span for span in run.spans if span.name == "step models"])


def test_flaky(told: dict[str, Told]) -> None:
    """Dagster's second attempt ends the run, not the first; tags count both."""
    check_flaky(told["flaky"])


def test_flaky_processes(made: Path) -> None:
    """So it does in a process of its own."""
    check_flaky(launch(made, "flaky", "spawn"))


def check_between(run: Told, outcome: list[str], cause: str) -> None:
    """Check that all that had begun has ended, with its cause."""
    assert ([outcome], [ABORTED]) == (run.ends[run.name], run.ends["dbt.pipeline"])
    assert {1} == {len(states) for states in run.ends.values()}
    assert {2} == {len(sent) for states in run.ends.values() for sent in states}
    assert cause in run.errors["dbt.pipeline"]
    assert cause in run.span("dbt").status.message
    assert run.sent.items() <= run.tags.items()


@pytest.mark.parametrize(
    ("way", "outcome", "cause"),
    [
        ("consumer_raises", FAILED, "between two events"),
        ("dagster_raises", FAILED, "no_such_output"),
        ("consumer_stops", OK, "The asset ended without reading all events of this dbt command."),
    ],
)
def test_between_events(told: dict[str, Told], way: str, outcome: list[str], cause: str) -> None:
    """A command whose events nobody reads any more ends with the step, and says why."""
    check_between(told[way], outcome, cause)


def test_between_events_in_a_process(made: Path) -> None:
    """So it does in a process of its own."""
    check_between(launch(made, "dagster_raises", "spawn"), FAILED, "no_such_output")


def test_unread(told: dict[str, Told]) -> None:
    """A command whose events nobody reads at all is warned of."""
    run = told["unread"]

    assert ([OK], [OK]) == (run.ends["unread"], run.ends["dbt.pipeline"])
    assert 1 == len([line for line in run.lines if "because its events were not read" in line["event"]])


def test_other_commands(told: dict[str, Told]) -> None:
    """Commands that take no selection get none, freshness finds its sources, and each has its own end."""
    run = told["other_commands"]

    assert {
        "other_commands": [OK],
        "dbt.pipeline": [OK, OK, OK, FAILED],
        "model.pipeline.one": [OK],
        "model.pipeline.two": [OK],
        "source.pipeline.raw.landed": [OK],
    } == run.ends
    assert 4 == [span.name for span in run.spans].count("dbt")
    assert {"model.pipeline.one", "model.pipeline.two", "source.pipeline.raw.landed"} == {
        span.name for span in run.spans if "." in span.name
    }


@pytest.mark.parametrize(("job", "step"), [("op_job", "op.op_job.ping"), ("asset_job", "asset.pipeline.plain")])
def test_without_dbt_assets(told: dict[str, Told], job: str, step: str) -> None:
    """An op, or an asset that dbt does not make, runs a command that builds nothing."""
    assert {job: [OK], step: [OK], "dbt.pipeline": [OK]} == told[job].ends
    assert 0 == told[job].span(f"run {job}").status.code


def check_steps(run: Told) -> None:
    """Check that one step has ended the run, and that tags count all."""
    assert ([OK], ("steps", "COMPLETE")) == (run.ends["steps"], run.last)
    assert 2 == [span.name.partition(" ")[0] for span in run.spans].count("step")
    assert run.sent.items() <= run.tags.items()


def test_steps(told: dict[str, Told]) -> None:
    """Of several steps with dbt, the one that ends last ends the run; tags count all of them."""
    check_steps(told["steps"])


def test_steps_in_processes(made: Path) -> None:
    """So it does where each step has a process of its own."""
    check_steps(launch(made, "steps", "spawn"))


def test_last_without_dbt(told: dict[str, Told]) -> None:
    """A step without dbt that ends last ends the run."""
    run = told["last_ok"]

    assert ([OK], ("last_ok", "COMPLETE")) == (run.ends["last_ok"], run.last)
    assert 0 == run.span("run last_ok").status.code


def test_range(told: dict[str, Told]) -> None:
    """A range of partitions stands in tags and attributes, with its window."""
    run = told["range_job"]
    facets = [event["run"]["facets"] for event in run.events if event["job"]["name"] == "range_job"]

    assert [RANGE] * 2 == [
        {tag["key"]: tag["value"] for tag in each["tags"]["tags"] if tag["source"] == "DAGSTER"} for each in facets
    ]
    assert {("2026-01-02T00:00:00+00:00", "2026-01-05T00:00:00+00:00")} == {
        (each["nominalTime"]["nominalStartTime"], each["nominalTime"]["nominalEndTime"]) for each in facets
    }
    for span in run.spans:
        keys = {name: value for name, value in attributes(span).items() if "partition" in name}
        assert {
            "dagster.partition_key_range.start": "2026-01-02",
            "dagster.partition_key_range.end": "2026-01-04",
        } == keys
