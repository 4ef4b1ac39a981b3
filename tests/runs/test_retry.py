"""Tests of a step that Dagster repeats: only what has failed or was skipped is built again, and no failed test."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest
from dagster._core.storage.tags import RESUME_RETRY_TAG
from pipeline.floe.assets.repeated_run import RUN
from pipeline.floe.step import FROM_FAILURE_TAG

from tools import runs
from tools.runs import Run

pytestmark = pytest.mark.xdist_group("retries")

# In the place of defs/dbt.py.
DBT = """
import json
import os
import signal
from collections.abc import Iterator
from typing import Any

import dagster as dg
from dagster_dbt import DbtCliResource, dbt_assets

from ..floe.run import FloeTranslator, load_manifest, observe
from ..project import dbt_project

COMMON = {"manifest": load_manifest(dbt_project), "project": dbt_project, "dagster_dbt_translator": FloeTranslator()}
POLICY = dg.RetryPolicy(max_retries=2)
DAYS = dg.DailyPartitionsDefinition("2026-01-01")


@dbt_assets(**COMMON, name="models", select="path:models/policy", retry_policy=POLICY)
def models(context: dg.AssetExecutionContext, dbt: DbtCliResource) -> Iterator[Any]:
    yield from observe(dbt, ["build"], context, retry_tests=context.job_name == "retries_tests")


@dbt_assets(**COMMON, name="daily", select="path:models/daily", partitions_def=DAYS)
def daily(context: dg.AssetExecutionContext, dbt: DbtCliResource) -> Iterator[Any]:
    variables = {"day": context.partition_key, "run": context.run_id}
    flags = [] if os.environ.get("OTHER_ARGUMENTS") else ["--full-refresh"]
    yield from observe(dbt, ["build", *flags, "--vars", json.dumps(variables)], context)


@dbt_assets(**COMMON, name="commands", select="path:models/commands", retry_policy=POLICY)
def commands(context: dg.AssetExecutionContext, dbt: DbtCliResource) -> Iterator[Any]:
    os.environ["BREAK"] = "two" if context.retry_number == 0 else ""
    yield from observe(dbt, ["run", "--exclude", "two"], context)
    yield from observe(dbt, ["run", "--exclude", "one"], context)


@dbt_assets(**COMMON, name="chosen", select="path:models/chosen", retry_policy=POLICY)
def chosen(context: dg.AssetExecutionContext, dbt: DbtCliResource) -> Iterator[Any]:
    os.environ["BREAK"] = "later" if context.retry_number == 0 else ""
    if context.retry_number == 0:
        yield from observe(dbt, ["run", "--exclude", "later"], context)
    yield from observe(dbt, ["run", "--exclude", "early"], context)


@dbt_assets(**COMMON, name="stopped", select="path:models/stopped", retry_policy=POLICY)
def stopped(context: dg.AssetExecutionContext, dbt: DbtCliResource) -> Iterator[Any]:
    os.environ["ROWS"] = "1" if context.retry_number else "3000000000"
    events = observe(dbt, ["build"], context)
    for event in events:
        yield event
        if context.retry_number == 0:
            events._dbt_cli_invocation.process.send_signal(signal.Signals[os.environ["STOP"]])


@dbt_assets(**COMMON, name="changed", select="path:models/changed")
def changed(context: dg.AssetExecutionContext, dbt: DbtCliResource) -> Iterator[Any]:
    yield from observe(dbt, ["build"], context)


@dg.asset(deps=["solid"])
def report() -> None: ...


@dg.asset(deps=["beside"], partitions_def=DAYS)
def export() -> None: ...


@dg.asset(deps=["day"], partitions_def=DAYS)
def other_export() -> None: ...
"""
JOBS = """
import dagster as dg

from .dbt import changed, chosen, commands, daily, models, stopped

flaky = dg.define_asset_job("flaky", dg.AssetSelection.assets("solid", "flaky", "child", "report"))
tested = dg.define_asset_job("tested", dg.AssetSelection.assets("tested", "below"))
retries_tests = dg.define_asset_job("retries_tests", dg.AssetSelection.assets("tested", "below"))
mixed = dg.define_asset_job("mixed", dg.AssetSelection.assets("tested", "below", "flaky", "child"))
day = dg.define_asset_job("one_day", dg.AssetSelection.assets(daily, "export", "other_export"))
two = dg.define_asset_job("two_commands", dg.AssetSelection.assets(commands))
choice = dg.define_asset_job("chooses", dg.AssetSelection.assets(chosen))
stop = dg.define_asset_job("is_stopped", dg.AssetSelection.assets(stopped))
change = dg.define_asset_job("has_changed", dg.AssetSelection.assets(changed))
"""
BREAKS = "{{ 'no_such_column' if env_var('BREAK', '') == this.name else 1 }}"
TABLE = "{{ config(materialized='table') }}"
FILES = {
    # Each dbt command leaves a file, and the model fails until there are as many as in FAILURES.
    "policy/flaky.sql": """
        {% set folder = env_var('COUNT_DIR', '/tmp') %}
        {{ config(materialized='table', pre_hook="copy (select 1) to '" ~ folder ~ "/{{ invocation_id }}.csv'") }}
        select if((select count(*) from glob('{{ folder }}/*')) <= {{ env_var('FAILURES', '0') }},
                  error('lost connection'), id) as id
        from {{ ref('solid') }}""",
    "policy/solid.sql": f"{TABLE} select 1 as id",
    "policy/child.sql": "select id from {{ ref('flaky') }}",
    "policy/tested.sql": "select null::int as id",
    "policy/below.sql": "select id from {{ ref('tested') }}",
    "policy/schema.yml": """
models:
  - {name: solid, columns: [{name: id, data_tests: [unique]}]}
  - {name: tested, columns: [{name: id, data_tests: [not_null]}]}""",
    "daily/day.sql": f"""{TABLE} select {BREAKS} as id, '{{{{ var('day', '') }}}}' as day,
        '{{{{ var('run', '') }}}}' as run, '{{{{ flags.FULL_REFRESH }}}}' as refresh""",
    "daily/after_day.sql": f"{TABLE} select * from {{{{ ref('day') }}}}",
    "daily/beside.sql": f"{TABLE} select 1 as id",
    "daily/schema.yml": """
models:
  - name: beside
    columns:
      - name: id
        data_tests: [not_null, {accepted_values: {arguments: {values: [2]}, config: {severity: warn}}}]
  - {name: after_day, columns: [{name: id, data_tests: [not_null]}]}""",
    "commands/one.sql": "select 1 as id",
    "commands/two.sql": f"select {BREAKS} as id",
    "chosen/early.sql": "select 1 as id",
    "chosen/later.sql": f"select {BREAKS} as id",
    "stopped/first.sql": f"{TABLE} select 1 as id",
    "stopped/slow.sql": f"""{TABLE} select sum(range) as id
        from range({{{{ env_var('ROWS', '1') }}}}), {{{{ ref('first') }}}}""",
    "stopped/last.sql": "select * from {{ ref('slow') }}",
    "changed/old.sql": f"select {BREAKS} as id",
    "changed/stays.sql": f"{TABLE} select 1 as id",
}


@pytest.fixture(scope="module")
def folder(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the sample project with models that fail in several ways."""
    copied = runs.copy(project, tmp_path_factory.mktemp("retry") / "project", dbt=DBT, jobs=JOBS)
    for file, text in FILES.items():
        path = copied / "dbt" / "models" / file
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    parse_again(copied)
    return copied


def parse_again(folder: Path) -> None:
    """Let the next process parse the project, as a deployment does."""
    (folder / "dbt" / "target" / "manifest.json").unlink(missing_ok=True)


def launch(folder: Path, tmp_path: Path, job: str, failures: int = 0, **more: Any) -> Run:
    """Run a job; `failures` is the number of times that the model `flaky` fails."""
    (tmp_path / "count").mkdir(exist_ok=True)
    return runs.launch(folder, job, COUNT_DIR=str(tmp_path / "count"), FAILURES=str(failures), **more)


def ends(run: Run) -> dict[str, list[str]]:
    """Return how the runs of each job have ended in lineage, in order; for a model, by its name with a dot."""
    found: dict[str, list[str]] = {}
    for event in run.events:
        if event["eventType"] != "START":
            found.setdefault(event["job"]["name"].removeprefix("model.pipeline"), []).append(event["eventType"])
    return found


def of_test(outcomes: dict[str, list[str]], name: str) -> list[str]:
    """Return how the runs of a test have ended."""
    (found,) = (found for job, found in outcomes.items() if job.startswith(f"test.pipeline.{name}"))
    return found


def recorded(run: Run) -> list[tuple[str, str]]:
    """Return what Dagster has recorded of a run's assets, checks and steps: type and key."""
    with dg.DagsterInstance.from_config(str(run.project / "home")) as instance:
        logs = [log.dagster_event for log in instance.all_logs(run.run_id)]
    found = []
    for event in logs:
        if event is None:
            continue
        if event.event_type is dg.DagsterEventType.ASSET_MATERIALIZATION:
            found.append(("materialized", event.asset_key.to_user_string() if event.asset_key else ""))
        elif event.event_type is dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            data = event.asset_check_evaluation_data
            found.append(("passed" if data.passed else data.severity.value, data.check_name))
        elif event.event_type in {dg.DagsterEventType.STEP_SUCCESS, dg.DagsterEventType.STEP_SKIPPED}:
            found.append((event.event_type.value, event.step_key or ""))
    return found


def query(folder: Path, sql: str) -> list[tuple[Any, ...]]:
    """Return rows of the warehouse."""
    with duckdb.connect(str(folder / "local" / "warehouse.duckdb"), read_only=True) as connection:
        return connection.execute(sql).fetchall()


def test_tag() -> None:
    """Dagster's tag of a run that repeats another one from its failure, which is private, is still the same."""
    assert RESUME_RETRY_TAG == FROM_FAILURE_TAG


@pytest.mark.parametrize("config", [runs.IN_PROCESS, runs.multiprocess("spawn")], ids=["in_process", "multiprocess"])
def test_transient(folder: Path, tmp_path: Path, config: dict[str, Any]) -> None:
    """A node that fails twice is built three times, with what depends on it, in one trace; the rest only once."""
    run = launch(folder, tmp_path, "flaky", 2, config=config)
    outcomes = ends(run)

    assert ["COMPLETE"] == outcomes[".solid"] == of_test(outcomes, "unique_solid_id")
    assert ["FAIL", "FAIL", "COMPLETE"] == outcomes[".flaky"] == outcomes["dbt.pipeline"]
    assert ["ABORT", "ABORT", "COMPLETE"] == outcomes[".child"]
    assert {run.trace_id} == {span.trace_id.hex() for span in run.spans}
    names = Counter(span.name for span in run.spans)
    assert (1, 3, 3, 1) == (names["run flaky"], names["step models"], names["dbt"], names["model.pipeline.solid"])
    parents = [event["run"]["facets"]["parent"] for event in run.events if "parent" in event["run"]["facets"]]
    assert {run.run_id} == {parent["root"]["run"]["runId"] for parent in parents}

    # The step that needs what the first attempt has built runs, and Dagster knows of one materialization of it.
    events = Counter(recorded(run))
    assert {1} == {events["materialized", name] for name in ("solid", "flaky", "child", "report")}
    assert 1 == events["passed", "unique_solid_id"]
    assert 0 == events["STEP_SKIPPED", "report"]
    assert not list((folder / ".floe" / "retries").glob("*.models"))


def test_failed_test(folder: Path, tmp_path: Path) -> None:
    """A test that has failed is not repeated, nor is the step, whose reason stays the same."""
    run = launch(folder, tmp_path, "tested")

    assert ["FAIL"] == ends(run)["dbt.pipeline"]
    assert 1 == [span.name for span in run.spans].count("step models")
    assert "not_null_tested_id" in run.span("run tested").status.message
    assert [("ERROR", "not_null_tested_id")] == [event for event in recorded(run) if "not_null" in event[1]]


def test_asked_for(folder: Path, tmp_path: Path) -> None:
    """With `retry_tests`, a failed test is repeated, and its model is not built again."""
    run = launch(folder, tmp_path, "retries_tests")
    outcomes = ends(run)

    assert 3 == len(of_test(outcomes, "not_null_tested_id"))
    assert ["COMPLETE"] == outcomes[".tested"]


def test_mixed(folder: Path, tmp_path: Path) -> None:
    """If a model and a test fail, only the model is built again, and the step fails for the test."""
    run = launch(folder, tmp_path, "mixed", 1)
    outcomes = ends(run)

    assert ["COMPLETE"] == outcomes[".tested"]
    assert ["FAIL", "COMPLETE"] == outcomes[".flaky"]
    assert 1 == len(of_test(outcomes, "not_null_tested_id"))
    assert ["ABORT"] == outcomes[".below"]
    assert ["FAIL"] == outcomes["mixed"]
    assert 2 == [span.name for span in run.spans].count("step models")
    assert "Tests failed in an earlier attempt" in run.span("run mixed").status.message


def test_other_commands(folder: Path, tmp_path: Path) -> None:
    """If a further attempt runs other commands, they run as they are, instead of what was stored in their place."""
    run = launch(folder, tmp_path, "chooses")

    assert ["FAIL", "COMPLETE"] == ends(run)[".later"]
    assert ("materialized", "later") in recorded(run)
    assert "it or the dbt project has changed" in run.output


def test_from_failure(folder: Path, tmp_path: Path) -> None:
    """A new run from the failure builds what is missing, for the same partition, variables and flags."""
    tags = {"dagster/partition": "2026-01-02"}
    first = launch(folder, tmp_path, "one_day", tags=tags, BREAK="day")
    assert (["FAIL"], ["COMPLETE"]) == (ends(first)[".day"], ends(first)[".beside"])
    assert ("STEP_SUCCESS", "export") not in recorded(first)

    second = launch(folder, tmp_path, "one_day", tags=tags, failed=first)
    outcomes, events = ends(second), recorded(second)

    assert ["COMPLETE"] == outcomes[".day"] == outcomes[".after_day"]
    assert ".beside" not in outcomes
    assert 0 == second.span("run one_day").status.code
    assert [("2026-01-02", first.run_id, "True")] == query(folder, "select day, run, refresh from day")
    facets = [event["run"]["facets"] for event in second.events]
    assert {"2026-01-02T00:00:00+00:00"} == {
        found["nominalTime"]["nominalStartTime"] for found in facets if "nominalTime" in found
    }
    # Steps that need an output of the first run are not skipped, and checks have their results in the new run.
    assert {("STEP_SUCCESS", name) for name in ("daily", "export", "other_export")} <= set(events)
    assert Counter(["beside", "day", "after_day", "export", "other_export"]) == Counter(
        key for kind, key in events if kind == "materialized"
    )
    assert {"not_null_beside_id", "not_null_after_day_id"} == {key for kind, key in events if kind == "passed"}
    assert ["accepted_values_beside_id__2"] == [key for kind, key in events if kind == "WARN"]
    with dg.DagsterInstance.from_config(str(folder / "home")) as instance:
        latest = instance.get_latest_materialization_event(dg.AssetKey("beside"))
    assert latest
    assert latest.asset_materialization
    assert first.run_id == latest.asset_materialization.metadata[RUN].value
    # Its own trace is linked to the first one.
    (link,) = second.span("run one_day").links
    assert (first.trace_id, first.span("run one_day").span_id) == (link.trace_id.hex(), link.span_id)


def test_other_arguments(folder: Path, tmp_path: Path) -> None:
    """A new run whose command has other arguments repeats the whole command."""
    tags = {"dagster/partition": "2026-01-03"}
    first = launch(folder, tmp_path, "one_day", tags=tags, BREAK="day")
    second = launch(folder, tmp_path, "one_day", tags=tags, failed=first, OTHER_ARGUMENTS="1")

    assert ["COMPLETE"] == ends(second)[".beside"] == ends(second)[".day"]
    assert [("2026-01-03", second.run_id)] == query(folder, "select day, run from day")


def test_two_commands(folder: Path, tmp_path: Path) -> None:
    """The first of two commands has succeeded, so the second attempt repeats only the other one."""
    outcomes = ends(launch(folder, tmp_path, "two_commands"))

    assert (["COMPLETE"], ["FAIL", "COMPLETE"]) == (outcomes[".one"], outcomes[".two"])
    assert ["COMPLETE"] == outcomes["two_commands"]


@pytest.mark.parametrize("signal", ["SIGKILL", "SIGINT"])
def test_stopped(folder: Path, tmp_path: Path, signal: str) -> None:
    """After a command whose results are missing or incomplete, all of it is repeated, and no node is lost."""
    outcomes = ends(launch(folder, tmp_path, "is_stopped", STOP=signal))

    assert ["COMPLETE", "COMPLETE"] == outcomes[".first"]
    assert (["COMPLETE"], ["COMPLETE"]) == (outcomes[".slow"][-1:], outcomes[".last"][-1:])
    assert ["COMPLETE"] == outcomes["is_stopped"]


def test_unwritable(folder: Path, tmp_path: Path) -> None:
    """Without a state folder, the whole step is repeated, and the run succeeds."""
    (tmp_path / "file").touch()
    run = launch(folder, tmp_path, "flaky", 1, FLOE_STATE_DIR=str(tmp_path / "file" / "state"))
    outcomes = ends(run)

    assert ["COMPLETE", "COMPLETE"] == outcomes[".solid"]
    assert ["FAIL", "COMPLETE"] == outcomes[".flaky"]
    assert "A further attempt will repeat the whole dbt command" in run.output


@pytest.mark.parametrize("becomes", [None, "new"])
def test_changed_project(folder: Path, tmp_path: Path, becomes: str | None) -> None:
    """If the node that has failed is gone, or a new one is there, all is built."""
    old, stays = (folder / "dbt" / "models" / "changed" / f"{name}.sql" for name in ("old", "stays"))
    text = old.read_text()
    first = launch(folder, tmp_path, "has_changed", BREAK="old")
    assert (["FAIL"], ["COMPLETE"]) == (ends(first)[".old"], ends(first)[".stays"])

    old.unlink()
    if becomes:
        stays.with_stem(becomes).write_text("select 1 as id")
    parse_again(folder)
    try:
        second = launch(folder, tmp_path, "has_changed", failed=first)
    finally:
        old.write_text(text)
        parse_again(folder)

    assert {".stays", *([f".{becomes}"] if becomes else [])} == ends(second).keys() - {"dbt.pipeline", "has_changed"}
    assert ["COMPLETE"] == ends(second)["has_changed"]
