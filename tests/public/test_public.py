"""Tests that compare all sent schemas and column origins with the real columns in the warehouse."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pytest
import yaml

from tools.receiver import receiver
from tools.rendering import render, run, snapshot

PROJECTS: list[dict[str, Any]] = yaml.safe_load((Path(__file__).parent / "projects.yml").read_text())
Event = dict[str, Any]


@dataclass(frozen=True)
class Build:
    """What a build has sent, and the columns of each table that it has left, by OpenLineage's name."""

    ends: list[Event]
    columns: dict[str, list[str]]
    with_catalog: bool

    @property
    def sent(self) -> set[str]:
        """Return the tables that the events say were written."""
        return {output["name"] for end in self.ends for output in end.get("outputs", ())}

    @property
    def outputs(self) -> dict[str, tuple[Event, dict[str, Any]]]:
        """Return the end and the dataset of each table that is still there."""
        every = {output["name"]: (end, output) for end in self.ends for output in end.get("outputs", ())}
        return {name: pair for name, pair in every.items() if name in self.columns}


@pytest.fixture(scope="module", params=PROJECTS, ids=lambda project: project["name"])
def project(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return a public project, cloned into a repository that the template has rendered around it."""
    project: dict[str, Any] = request.param
    root = tmp_path_factory.mktemp(project["name"])
    clone = root / "project" / "transform"
    subprocess.run(["git", "clone", "--quiet", project["url"], clone], check=True)
    subprocess.run(["git", "checkout", "--quiet", project["commit"]], cwd=clone, check=True)
    render(
        snapshot(root / "template"),
        root / "project",
        project_name="pipeline",
        start_from="existing",
        dbt_project_dir="/".join(filter(None, ["transform", project.get("folder")])),
    )
    if csv := project.get("csv"):
        load(clone, root / "project" / "local" / "warehouse.duckdb", **csv)
    return project | {"root": root / "project"}


@pytest.fixture(scope="module", params=["without a catalog", "with a catalog"])
def either(request: pytest.FixtureRequest, built: Build, built_with_catalog: Build) -> Build:
    """Return each of the two builds."""
    return built_with_catalog if request.param == "with a catalog" else built


@pytest.fixture(scope="module")
def built(project: dict[str, Any]) -> Build:
    """Return what the first build has sent: nothing is known of sources but what the project documents."""
    return build(project, with_catalog=False)


@pytest.fixture(scope="module")
def built_with_catalog(project: dict[str, Any], built: Build) -> Build:
    """Return what a build has sent that found dbt's catalog."""
    assert built.ends
    dbt = project["root"] / "transform" / project.get("folder", "")
    docs = run(
        "dbt",
        "docs",
        "generate",
        "--quiet",
        "--no-compile",  # one model of dbt_utils does not compile on DuckDB 2
        "--profiles-dir",
        project["root"] / "profiles",
        "--profile",
        "pipeline",
        cwd=dbt,
        **environment(project),
    )
    assert 0 == docs.returncode, docs.stdout + docs.stderr
    return build(project, with_catalog=True)


def test_tables(project: dict[str, Any], built: Build) -> None:
    """Nearly every table of the project is built and has an end with an output."""
    assert project["tables"] <= len(built.outputs)
    assert built.sent - set(built.columns) == set(project.get("dropped", ()))


def test_schemas(either: Build, request: pytest.FixtureRequest) -> None:
    """A schema is the table's own, names, order and spelling, or it is marked incomplete and holds no other column."""
    counted: Counter[str] = Counter()
    for name, (end, output) in either.outputs.items():
        fields = output["facets"].get("schema", {}).get("fields", [])
        names = [field["name"] for field in fields]
        if fields and all("ordinal_position" in field for field in fields):
            assert either.columns[name] == names, name
            counted["complete"] += 1
        else:
            assert set(names) <= set(either.columns[name]), name
            assert "extractionError" in end["run"]["facets"], name
            counted["incomplete"] += 1
    print(f"{request.node.callspec.id}: {dict(counted)}")
    if either.with_catalog:
        assert not counted["incomplete"]


def test_origins(either: Build) -> None:
    """Each column that lineage names, on either side, is one that its table has, in its spelling."""
    for name, (_, output) in either.outputs.items():
        lineage = output["facets"].get("columnLineage", {"fields": {}})
        assert set(lineage["fields"]) <= set(either.columns[name]), name
        origins = [origin for field in lineage["fields"].values() for origin in field["inputFields"]]
        for origin in [*origins, *lineage.get("dataset", ())]:
            assert origin["field"] in either.columns[origin["name"]], (name, origin)


def build(project: dict[str, Any], *, with_catalog: bool) -> Build:
    """Build everything through Dagster."""
    root: Path = project["root"]
    with receiver() as server:
        done = run("dg", "launch", "--assets", "*", cwd=root, OPENLINEAGE_URL=server.url, **environment(project))
    ends = [event for event in server.events if event["eventType"] == "COMPLETE"]
    assert ends, done.stdout + done.stderr
    assert not re.findall("detail lost|a detail of .* was lost", done.stdout + done.stderr)
    return Build(ends, columns(root / "local" / "warehouse.duckdb"), with_catalog)


def environment(project: dict[str, Any]) -> dict[str, str]:
    """Return the variables of a build, as on a machine that has nothing else set."""
    return {
        "PYTHONPATH": str(project["root"] / "src"),
        "DAGSTER_CLI_TELEMETRY": "0",
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "0",
        "DBT_TARGET_PATH": "target",
        "DUCKDB_PATH": str(project["root"] / "local" / "warehouse.duckdb"),
    }


def columns(database: Path) -> dict[str, list[str]]:
    """Return the columns of each table and view, by `database.schema.table`."""
    by_table: dict[str, list[str]] = {}
    with duckdb.connect(str(database), read_only=True) as connection:
        rows = connection.execute(
            "select concat_ws('.', database_name, schema_name, table_name), column_name from duckdb_columns()"
            " where not internal order by 1, column_index"
        ).fetchall()
    for table, column in rows:
        by_table.setdefault(table, []).append(column)
    return by_table


def load(clone: Path, database: Path, *, schema: str, files: str, rename: dict[str, str]) -> None:
    """Load files into tables that are called after the part of their names that differs."""
    before, _, after = Path(files).name.partition("*")
    database.parent.mkdir(parents=True, exist_ok=True)
    with duckdb.connect(str(database)) as connection:
        connection.execute(f"create schema {schema}")
        for file in clone.glob(files):
            table = file.name.removeprefix(before).removesuffix(after)
            connection.execute(f"create table {schema}.{rename.get(table, table)} as from read_csv_auto('{file}')")
