"""Tests of the events of a Dagster run with real dbt on DuckDB: owners, catalog, deferral and compiled SQL."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from tests.lineage.replay import of
from tools import runs

FILES = {
    "seeds/raw.csv": "id,amount\n1,10\n2,20\n",
    "data/landed.csv": "id,name\n1,a\n",
    "models/base.sql": "select id, amount from {{ ref('raw') }}",
    "models/top.sql": "select * from {{ ref('base') }}",
    "models/named.sql": "select * from {{ source('lake', 'events') }}",
    "models/grouped.sql": "select id from {{ source('files', 'landed') }}",
    "models/in_dagster.sql": "select 1 as id",
    "models/models.yml": """
groups:
  - name: finance
    owner: {name: Finance, email: finance@example.com}
models:
  - {name: named, config: {meta: {floe: {owner: analytics}}}}
  - {name: grouped, config: {group: finance}, columns: [{name: id, data_tests: [not_null]}]}
  - {name: in_dagster, config: {meta: {dagster: {owners: ["team:ops"]}}}}
sources:
  - name: lake
    schema: prod
    tables: [{name: events, config: {meta: {floe: {owner: "lake@example.com"}}}}]
  - name: files
    meta: {external_location: "data/{name}.csv"}
    tables: [{name: landed}]
""",
}
PICKED = ["top", "named", "grouped", "in_dagster"]
JOBS = f"""
import dagster as dg

picked = dg.define_asset_job("picked", dg.AssetSelection.keys({", ".join(map(repr, PICKED))}))
"""
OWNERS = """
import json
from pipeline.definitions import defs
print("OWNERS", json.dumps({spec.key.path[-1]: list(spec.owners) for spec in defs().resolve_all_asset_specs()}))
"""


@pytest.fixture(scope="module")
def folder(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a project of a few models that production has built, with a catalog where dbt writes it."""
    folder: Path = tmp_path_factory.mktemp("dagster") / "project"
    runs.copy(project, folder, jobs=JOBS)
    dbt_project = folder / "dbt"
    for name in ("models", "seeds", "snapshots", "tests", "data"):
        shutil.rmtree(dbt_project / name, ignore_errors=True)
    for name, text in FILES.items():
        (dbt_project / name).parent.mkdir(exist_ok=True)
        (dbt_project / name).write_text(text)
    configured = (dbt_project / "dbt_project.yml").read_text().partition("\nvars:")[0]
    (dbt_project / "dbt_project.yml").write_text(f"{configured}\ntarget-path: built\n")
    events = "{{ config(alias='events') }} select 1 as key, 'x' as payload"
    (dbt_project / "models" / "landing.sql").write_text(events)
    for command in (["build", "--exclude", "named"], ["docs", "generate"]):
        done = subprocess.run(
            [Path(sys.executable).with_name("dbt"), *command],
            cwd=dbt_project,
            env=os.environ
            | {"DBT_PROFILES_DIR": ".", "DUCKDB_SCHEMA": "prod", "DUCKDB_PATH": str(folder / "w.duckdb")},
            capture_output=True,
            text=True,
            check=False,
        )
        assert 0 == done.returncode, done.stdout[-3000:]
    shutil.copytree(dbt_project / "built", folder / "state")
    (dbt_project / "models" / "landing.sql").unlink()
    return folder


@pytest.fixture(scope="module")
def events(folder: Path) -> list[dict[str, Any]]:
    """Return the events of a Dagster run that builds some of the models and defers to production for the others."""
    sent = folder / "events.ndjson"
    run = runs.launch(
        folder,
        "picked",
        protocol=None,
        DBT_DEFER="true",
        DBT_STATE=str(folder / "state"),
        DUCKDB_PATH=str(folder / "w.duckdb"),
        DUCKDB_SCHEMA="dev",
        OPENLINEAGE__TRANSPORT__TYPE="file",
        OPENLINEAGE__TRANSPORT__LOG_FILE_PATH=str(sent),
        OPENLINEAGE__TRANSPORT__APPEND="true",
    )
    assert run.run_id
    assert sent.is_file(), run.output[-5000:]
    return [json.loads(line) for line in sent.read_text().splitlines()]


def end(events: list[dict[str, Any]], model: str) -> dict[str, Any]:
    """Return the end of a model's run."""
    return of(events, f"model.pipeline.{model}")[1]


def owners(facets: dict[str, Any]) -> list[str]:
    """Return the owners that a job or dataset has."""
    return [owner["name"] for owner in facets.get("ownership", {}).get("owners", [])]


def test_owners(folder: Path, events: list[dict[str, Any]]) -> None:
    """An asset has the same owners in Dagster and, as a job and as a dataset, in lineage."""
    done = subprocess.run(
        [sys.executable, "-c", OWNERS],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": "src"},
        capture_output=True,
        text=True,
        check=True,
    )
    in_dagster = json.loads(done.stdout.rpartition("OWNERS ")[2])
    expected = {
        "top": ["team:data"],
        "named": ["team:analytics"],
        "grouped": ["finance@example.com"],
        "in_dagster": ["team:ops"],
    }

    assert expected == {model: in_dagster[model] for model in PICKED}
    assert expected == {model: owners(end(events, model)["job"]["facets"]) for model in PICKED}
    assert expected == {model: owners(end(events, model)["outputs"][0]["facets"]) for model in PICKED}


def test_owners_of_others(events: list[dict[str, Any]]) -> None:
    """A source has the owner that it names, by default none; a test has that of its dbt group."""
    (test,) = {event["job"]["name"] for event in events if event["job"]["name"].startswith("test.")}

    assert ["lake@example.com"] == owners(end(events, "named")["inputs"][0]["facets"])
    assert [] == owners(end(events, "grouped")["inputs"][0]["facets"])
    assert ["finance@example.com"] == owners(of(events, test)[1]["job"]["facets"])


def test_catalog(events: list[dict[str, Any]]) -> None:
    """The columns of an undocumented source come from the catalog in the folder that dbt_project.yml names."""
    (source,) = end(events, "named")["inputs"]

    assert ["key", "payload"] == [field["name"] for field in source["facets"]["schema"]["fields"]]


def test_deferred(events: list[dict[str, Any]]) -> None:
    """A model that is not built is read from production in both events, or not told in the first."""
    start, last = of(events, "model.pipeline.top")

    assert {"w.prod.base"} == {dataset["name"] for dataset in last["inputs"]}
    assert {dataset["name"] for dataset in start["inputs"]} <= {"w.prod.base"}
    assert {"id", "amount"} == set(last["outputs"][0]["facets"]["columnLineage"]["fields"])


def test_file(folder: Path, events: list[dict[str, Any]]) -> None:
    """A source in a file is named by the folder that Dagster runs dbt in."""
    (source,) = end(events, "grouped")["inputs"]

    assert ("file", str(folder / "dbt" / "data" / "landed.csv")) == (source["namespace"], source["name"])


def catalog(folder: Path, asset: str) -> tuple[dg.TableSchema, dg.TableColumnLineage]:
    """Return the schema and the column lineage of an asset's last materialization."""
    with dg.DagsterInstance.from_config(str(folder / "home")) as instance:
        event = instance.get_latest_materialization_event(dg.AssetKey(asset))
    assert event
    assert event.asset_materialization
    metadata = event.asset_materialization.metadata
    schema, lineage = metadata["dagster/column_schema"].value, metadata["dagster/column_lineage"].value
    assert isinstance(schema, dg.TableSchema)
    assert isinstance(lineage, dg.TableColumnLineage)
    return schema, lineage


def test_columns_of_a_run_before_lineage(project: Path, tmp_path: Path) -> None:
    """The first run with lineage knows the columns of seeds that a run without lineage has created."""
    folder, sent = tmp_path / "project", tmp_path / "events.ndjson"
    runs.copy(project, folder)
    lineage: dict[str, Any] = {
        "OPENLINEAGE__TRANSPORT__TYPE": "file",
        "OPENLINEAGE__TRANSPORT__LOG_FILE_PATH": str(sent),
        "OPENLINEAGE__TRANSPORT__APPEND": "true",
    }
    off: dict[str, Any] = {}
    catalogs = []
    for environment in (off, off, lineage):  # the second run adds rows to what the first has created
        run = runs.launch(folder, runs.ALL, protocol=None, DUCKDB_PATH=str(folder / "w.duckdb"), **environment)
        assert run.run_id, run.output[-5000:]
        catalogs.append(catalog(folder, "orders"))
    events = [json.loads(line) for line in sent.read_text().splitlines()]

    assert not [event["job"]["name"] for event in events if "extractionError" in event["run"]["facets"]]
    facets = end(events, "orders")["outputs"][0]["facets"]
    assert {"schema", "columnLineage"} <= facets.keys()

    # Dagster's catalog shows the same, with lineage and without, and the tags of documented columns.
    assert catalogs[0] == catalogs[1] == catalogs[2]
    schema, lineage_of = catalogs[0]
    assert [(field["name"], field.get("type", "?")) for field in facets["schema"]["fields"]] == [
        (column.name, column.type) for column in schema.columns
    ]
    assert {"gross_amount", "is_paid"} <= lineage_of.deps_by_column.keys()
    assert any(column.tags for column in catalog(folder, "customers")[0].columns)
