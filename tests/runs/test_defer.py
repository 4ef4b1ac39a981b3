"""Tests of `--defer`: the tables that the compiled SQL reads, which dbt's manifest does not show; with real dbt."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pipeline.floe.dbt.deferral import Deferral, is_named, names_in
from pipeline.floe.dbt.manifest_graph import Graph

from tests.lineage.builds import Build, build, dbt, write_project

FILES = {
    "seeds/raw.csv": "id,amount\n1,10\n2,20\n",
    "models/base.sql": "select id, amount from {{ ref('raw') }}",
    "models/kept.sql": "{{ config(materialized='table') }} select id, amount as kept from {{ ref('base') }}",
    "models/between.sql": "{{ config(materialized='ephemeral') }} select id, amount from {{ ref('base') }}",
    "models/below.sql": "select id, amount * 2 as doubled from {{ ref('between') }} -- not from dev.base",
    "models/mixed.sql": "select k.*, b.amount from {{ ref('kept') }} as k join {{ ref('base') }} as b using (id)",
    "models/wide_v1.sql": "select id from {{ ref('base') }}",
    "models/wide_v2.sql": "select id, amount from {{ ref('base') }}",
    "models/versioned.sql": "select * from {{ ref('wide', v=1) }}",
    "models/in_python.py": "def model(dbt, session):\n    return dbt.ref('base')\n",
    "models/from_source.sql": "select id from {{ source('landed', 'raw') }} -- after {{ ref('raw') }}",
    "models/models.yml": """
models:
  - name: mixed
    columns: [{name: id, data_tests: [{relationships: {arguments: {to: ref('base'), field: id}}}]}]
  - name: wide
    latest_version: 2
    versions: [{v: 1}, {v: 2}]
sources:
  - name: landed
    schema: prod
    tables: [{name: raw}]
""",
    "snapshots/history.yml": """
snapshots:
  - name: history
    relation: ref('base')
    config: {unique_key: id, strategy: check, check_cols: all}
""",
    "tests/positive.sql": "select * from {{ ref('base') }} where amount < 0",
}
TESTS = ["positive", "relationships_mixed_id__id__ref_base_"]
PICKED = ["below", "mixed", "versioned", "in_python", "history", "from_source", *TESTS]
DEFER = ("build", "--target=dev", "--defer", "--state=state", "--select", *PICKED)


def prod(name: str) -> str:
    """Return a table of production."""
    return f"warehouse.prod.{name}"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a project that production has built and cataloged; `dev` has `kept`, and a model has changed since."""
    folder = write_project(tmp_path_factory.mktemp("defer"), FILES)
    made = build(folder, "build", "--target=prod", target_path="state")
    assert [] == made.errors
    documented = dbt(folder, "docs", "generate", "--target=prod", target=folder / "state")
    assert documented.returncode == 0, documented.stdout
    (folder / "models" / "wide_v1.sql").write_text("select id, amount as added from {{ ref('base') }}")
    build(folder, "run", "--target=dev", "--defer", "--state=state", "--select=kept", target_path="before")
    return folder


def deferred(project: Path, *arguments: str, target_path: str) -> Build:
    """Return a run of some models in `dev` that defers to production."""
    deferral = Deferral.of(arguments, project)
    made = build(project, *arguments, target_path=target_path, deferral=deferral)
    assert [] == made.errors
    return made


@pytest.fixture(scope="module")
def run(project: Path) -> Build:
    """Return a run that reads production's tables where there are none of its own."""
    return deferred(project, *DEFER, target_path="target")


@pytest.fixture(scope="module")
def favored(project: Path) -> Build:
    """Return a run that reads production's tables wherever it does not build its own."""
    return deferred(project, *DEFER, "--favor-state", target_path="favored")


def test_deferred(run: Build) -> None:
    """What is not built is read from production, also below an ephemeral model, and its columns are followed there."""
    assert {prod("base")} == run.inputs("model.shop.below")
    assert {"id": {(prod("base"), "id")}, "doubled": {(prod("base"), "amount")}} == run.origins("model.shop.below")
    assert [] == run.left_out("model.shop.below")


@pytest.mark.parametrize("is_old", [False, True])
def test_not_cataloged(project: Path, is_old: bool) -> None:
    """With no catalog of production, or an older one, the columns of its seeds are not known, and the run says so."""
    catalog = project / "state" / "catalog.json"
    text = catalog.read_text()
    content = json.loads(text)
    content["metadata"]["generated_at"] = "2020-01-01T00:00:00Z"
    catalog.unlink()
    if is_old:
        catalog.write_text(json.dumps(content))
    try:
        made = deferred(project, *DEFER, target_path="not_cataloged")
    finally:
        catalog.write_text(text)

    assert {prod("base")} == made.inputs("model.shop.below")
    assert "columnLineage" not in made.output_facets("model.shop.below")
    assert made.left_out("model.shop.below")


def test_own(run: Build, favored: Build) -> None:
    """A table that `dev` has is read there, unless the state is favored."""
    assert {"warehouse.dev.kept", prod("base")} == run.inputs("model.shop.mixed")
    assert {prod("kept"), prod("base")} == favored.inputs("model.shop.mixed")
    assert {(prod("kept"), "kept")} == favored.origins("model.shop.mixed")["kept"]


@pytest.mark.parametrize(
    ("unique_id", "expected"),
    [
        ("model.shop.versioned", {prod("wide_v1")}),
        ("model.shop.in_python", {prod("base")}),
        ("snapshot.shop.history", {prod("base")}),
        ("test.shop.positive", {prod("base")}),
        ("model.shop.from_source", {prod("raw")}),
    ],
)
def test_kinds(run: Build, unique_id: str, expected: set[str]) -> None:
    """Versions, models in Python, snapshots, tests and sources: each is read where the compiled code says."""
    assert expected == run.inputs(unique_id)


def test_test_on_deferred(run: Build) -> None:
    """A test that compares a built model with a deferred one reads both."""
    (test,) = {event["job"]["name"] for event in run.events if event["job"]["name"].startswith("test.shop.relation")}

    assert {"warehouse.dev.mixed", prod("base")} == run.inputs(test)


def test_columns(run: Build) -> None:
    """A `*` from a deferred table has the columns of production, not those of a model that has changed since."""
    assert ["id"] == run.schema("model.shop.versioned")
    assert ["id", "amount"] == run.schema("snapshot.shop.history")[:2]


def test_nothing_of_dev(run: Build, favored: Build) -> None:
    """No table is told that does not exist."""
    built = {dataset["name"] for event in run.events for dataset in event["outputs"]} | {"warehouse.dev.kept"}
    read = {dataset["name"] for event in [*run.events, *favored.events] for dataset in event["inputs"]}

    assert set() == {name for name in read if ".dev." in name} - built


def test_not_said(project: Path, run: Build) -> None:
    """Before the SQL is there, or where it names neither table, the input is left out and known to be."""
    deferral = Deferral.of(["dbt", *DEFER], project)
    graph = Graph.read(run.target_path, {}, deferral)
    (run.target_path / "compiled" / "shop" / "models" / "mixed.sql").unlink()
    mixed = graph.node("model.shop.mixed")

    assert [] == graph.tables_upstream(mixed)
    assert {"model.shop.kept", "model.shop.base"} == {table["unique_id"] for table in graph.undecided(mixed)}


@pytest.mark.parametrize(
    ("arguments", "environment", "expected"),
    [
        (["build"], {}, None),
        (["build", "--state", "s"], {}, None),
        (["build", "--defer"], {}, None),
        (["build", "--defer", "--state", "s"], {}, "s"),
        (["build", "--defer", "--state=s", "--defer-state=d"], {}, "d"),
        (["build", "--defer", "--no-defer", "--state=s"], {}, None),
        (["build", "--state=s"], {"DBT_DEFER": "true"}, "s"),
        (["build", "--defer"], {"DBT_STATE": "s"}, "s"),
        (["build", "--defer", "--state=s"], {"DBT_DEFER_STATE": "d"}, "d"),
        (["build", "--no-defer", "--state=s"], {"DBT_DEFER": "1"}, None),
        (["build", "--defer", "--state", "/abs"], {}, "/abs"),
    ],
)
def test_state(
    arguments: list[str], environment: dict[str, str], expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state is the one that dbt takes, from the command's arguments and the environment."""
    for name in ("DBT_DEFER", "DBT_STATE", "DBT_DEFER_STATE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    deferral = Deferral.of(arguments, Path("/srv/dbt"))

    assert (Path("/srv/dbt") / expected / "manifest.json" if expected else None) == (deferral and deferral._manifest)


@pytest.mark.parametrize(
    ("dialect", "code", "expected"),
    [
        ("duckdb", 'select "a"."b"."c".id from "a"."b"."c"', True),
        ("duckdb", "select 1 from A.B . C", True),
        ("duckdb", "select 1 -- from a.b.c", False),
        ("duckdb", "select 'a.b.c'", False),
        ("duckdb", "select 1 from a.b.c2, x.b.c, a.b", False),
        ("duckdb", "select 1 from z.a.b.c", False),
        ("bigquery", "select 1 from `a`.`b`.`c`", True),
        ("bigquery", "select 1 from `a.b.c`", True),
        ("spark", "select 1 from a.b.c /* a.b */", True),
    ],
)
def test_names(dialect: str, code: str, expected: bool) -> None:
    """A table is named by all of its parts, quoted or not; comments and texts name nothing."""
    assert expected == is_named({"bigquery": "`a`.`b`.`c`"}.get(dialect, "a.b.c"), names_in(code, dialect), dialect)
