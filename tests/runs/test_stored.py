"""Tests of the columns that a table has after several runs, with real dbt: they may differ from those of its SQL."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pytest
from pipeline.floe.lineage.columns.cache import ColumnCache

from tests.lineage.builds import Build, build, dbt, write_project


def run(folder: Path, name: str, *arguments: str, full_refresh: bool = False, **files: Any) -> Build:
    """Run dbt in a project with its own `.floe` and catalog, after a change of its files."""
    write_project(folder, {path.replace("__", "/", 1).replace("__", "."): text for path, text in files.items()})
    how: dict[str, Any] = {"arguments": ["dbt", "build", "--full-refresh"]} if full_refresh else {}
    how["catalog"] = folder / "docs" / "catalog.json"
    return build(folder, *(arguments or ("build",)), target_path=name, kept=folder / "columns.json", **how)


def columns(folder: Path, table: str) -> list[str]:
    """Return the columns that a table has."""
    with duckdb.connect(str(folder / "warehouse.duckdb"), read_only=True) as connection:
        return [str(row[0]) for row in connection.execute(f"describe dev.{table}").fetchall()]


def test_failed_build(tmp_path: Path) -> None:
    """What a model would have become, had its build not failed, is not the table that later runs read."""
    raw, below = "select 1 as id, 'a' as name", "select * from {{ ref('a') }}"
    run(
        tmp_path,
        "one",
        models__s__sql=raw,
        models__a__sql="{{ config(materialized='table') }} select id, name as label from {{ ref('s') }}",
        models__b__sql=below,
    )
    failed = run(
        tmp_path,
        "two",
        models__a__sql="{{ config(materialized='table') }} select id, name::int as label2 from {{ ref('s') }}",
    )
    (input_,) = failed.end("model.shop.b")["inputs"]
    third = run(tmp_path, "three", "build", "--select", "b")

    assert "schema" not in input_["facets"]
    assert ["id", "label"] == columns(tmp_path, "b")
    assert "schema" not in third.output_facets("model.shop.b")
    assert third.left_out("model.shop.b")


def test_older_documentation(tmp_path: Path) -> None:
    """A documented column that a table lacks is not claimed, though its columns are not all known."""
    (tmp_path / "dev.csv").write_text("id\n1\n")
    built = run(
        tmp_path,
        "one",
        models__a__sql=f"select 1 as key, * from read_csv('{tmp_path / 'dev.csv'}')",
        models__a__yml="models: [{name: a, columns: [{name: key}, {name: gone, data_type: int}]}]",
    )

    assert ["key"] == built.schema("model.shop.a")
    assert built.left_out("model.shop.a")


def test_altered_below(tmp_path: Path) -> None:
    """A macro as a hook, and a header, may change anything: neither the table nor what reads it claims columns."""
    built = run(
        tmp_path,
        "one",
        macros__add__sql="""{% macro add_column() %}alter table {{ this }} add column extra int{% endmacro %}""",
        models__s__sql="select 1 as id, 'a' as name",
        models__a__sql="""{{ config(materialized='table', post_hook='{{ add_column() }}') }}
            select id, name from {{ ref('s') }}""",
        models__h__sql="""{% call set_sql_header(config) %}create or replace temp macro upper(x) as 'y';{% endcall %}
            {{ config(materialized='table') }} select id, upper(name) as name from {{ ref('s') }}""",
        models__below__sql="select * from {{ ref('a') }}",
    )

    assert ["id", "name", "extra"] == columns(tmp_path, "below")
    for name in ("model.shop.a", "model.shop.h", "model.shop.below"):
        assert not {"schema", "columnLineage"} & built.output_facets(name).keys()
        assert built.left_out(name)
    assert built.left_out("model.shop.s") == []


INCREMENTAL = "{{ config(materialized='incremental', on_schema_change='%s') }} select %s from {{ ref('s') }}"
S = "select 1 as id, 'a' as name, 2 as score"
BELOW = "select id, (select max(name) from {{ ref('inc') }}) as m from {{ ref('s') }}"


@pytest.mark.parametrize("has_memory", [True, False])
@pytest.mark.parametrize("change", ["append_new_columns", "sync_all_columns", "ignore"])
def test_older_columns(tmp_path: Path, change: str, has_memory: bool) -> None:
    """An incremental table may have columns that its SQL has no more, or lack those that are new."""
    first = run(
        tmp_path,
        "one",
        models__s__sql=S,
        models__inc__sql=INCREMENTAL % (change, "id, name, score"),
        models__below__sql=BELOW,
        models__star__sql="select * from {{ ref('inc') }}",
    )
    assert ["id", "name", "score"] == first.schema("model.shop.inc") == first.schema("model.shop.star")
    assert {("warehouse.dev.inc", "name")} == first.origins("model.shop.below")["m"]
    if not has_memory:
        (tmp_path / "columns.json").unlink()

    select = "id, score, name, 1 as extra" if change == "ignore" else "id, score, name as label2"
    below = BELOW.replace("name", "label2") if change == "sync_all_columns" else BELOW
    second = run(
        tmp_path,
        "two",
        models__inc__sql=INCREMENTAL % (change, select),
        models__below__sql=below,
        models__star__sql="{{ config(materialized='table') }} select * from {{ ref('inc') }}",
    )
    actual = columns(tmp_path, "inc")
    facets = second.output_facets("model.shop.inc")

    assert not any("ordinal_position" in field for field in facets["schema"]["fields"]) or has_memory
    if has_memory:
        assert sorted(actual) == sorted(second.schema("model.shop.inc"))
        assert set(facets["columnLineage"]["fields"]) <= set(actual)
        assert sorted(columns(tmp_path, "star")) == sorted(second.schema("model.shop.star"))
    elif change == "append_new_columns":
        assert {"id", "score", "label2"} == set(second.schema("model.shop.inc")) < set(actual)
        assert "m" not in second.origins("model.shop.below")
        assert "schema" not in second.output_facets("model.shop.star")
    if change != "append_new_columns" or has_memory:
        origin = "label2" if change == "sync_all_columns" else "name"
        assert {("warehouse.dev.inc", origin)} == second.origins("model.shop.below")["m"]

    third = run(tmp_path, "three", "build", "--full-refresh", full_refresh=True)
    assert columns(tmp_path, "inc") == third.schema("model.shop.inc") == columns(tmp_path, "star")


@pytest.mark.parametrize("selected", [("w",), ("s", "w")])
def test_view_of_changed_table(tmp_path: Path, selected: tuple[str, ...]) -> None:
    """A view that is not built again has the columns of before only as long as nothing that it reads has changed."""
    table = "{{ config(materialized='table') }} "
    run(
        tmp_path,
        "one",
        models__s__sql=table + "select 1 as id, 2 as amount",
        models__u__sql="select * from {{ ref('s') }}",
        models__v__sql="select * from {{ ref('u') }}",
        models__w__sql=table + "select * from {{ ref('v') }}",
    )
    again = run(tmp_path, "two", "build", "--select", "w")
    assert ["id", "amount"] == columns(tmp_path, "w") == again.schema("model.shop.w")

    changed: dict[str, Any] = {"models__s__sql": table + "select 2 as total, 1 as id"}
    if selected == ("w",):
        run(tmp_path, "three", "build", "--select", "s", **changed)
        changed = {}
    last = run(tmp_path, "four", "build", "--select", *selected, **changed)

    assert ["total", "id"] == columns(tmp_path, "w")
    assert not {"schema", "columnLineage"} & last.output_facets("model.shop.w").keys()
    assert last.left_out("model.shop.w")
    whole = run(tmp_path, "five")
    assert columns(tmp_path, "w") == whole.schema("model.shop.w")


def test_changed_delimiter(tmp_path: Path) -> None:
    """A seed whose file is read with another delimiter has other columns, though the file is the same."""
    run(tmp_path, "one", seeds__raw__csv="id;name\n1;Ada\n")
    (tmp_path / "seeds" / "raw.yml").write_text("seeds: [{name: raw, config: {delimiter: ';'}}]")
    second = run(tmp_path, "two", "build", "--full-refresh", full_refresh=True)

    assert ["id", "name"] == columns(tmp_path, "raw") == second.schema("seed.shop.raw")


def test_changed_snapshot(tmp_path: Path) -> None:
    """A snapshot whose configuration has changed has the columns of now, though its SQL is the same."""
    snapshot = "{{% snapshot snap %}}{{{{ config(unique_key={key}, strategy='check', check_cols='all', {more}) }}}}"
    sql = " select 1 as id, 2 as k {% endsnapshot %}"
    first = run(tmp_path, "one", snapshots__snap__sql=snapshot.format(key="'id'", more="") + sql)
    assert "dbt_valid_to" in first.schema("snapshot.shop.snap")
    with duckdb.connect(str(tmp_path / "warehouse.duckdb")) as connection:
        connection.execute("drop table dev.snap")
    more = "snapshot_meta_column_names={'dbt_valid_to': 'until'}, hard_deletes='new_record'"
    second = run(tmp_path, "two", snapshots__snap__sql=snapshot.format(key="'k'", more=more) + sql)

    assert sorted(columns(tmp_path, "snap")) == sorted(second.schema("snapshot.shop.snap"))
    assert {"until", "dbt_is_deleted"} <= set(second.schema("snapshot.shop.snap"))


def test_redefined_materialization(tmp_path: Path) -> None:
    """Of a table whose materialization the project has redefined, nothing is claimed."""
    built = run(
        tmp_path,
        "one",
        macros__table__sql="""{% materialization table, adapter='duckdb' %}
            {% set target = this.incorporate(type='table') %}
            {% call statement('main') %}create or replace table {{ target }} as select *, 1 as extra from ({{ sql }})
            {% endcall %}
            {% do adapter.commit() %}
            {{ return({'relations': [target]}) }}
        {% endmaterialization %}""",
        models__a__sql="{{ config(materialized='table') }} select 1 as id",
        models__b__sql="select 1 as id",
    )

    assert ["id", "extra"] == columns(tmp_path, "a")
    assert not {"schema", "columnLineage"} & built.output_facets("model.shop.a").keys()
    assert "redefines the materialization table" in str(built.left_out("model.shop.a"))
    assert ["id"] == built.schema("model.shop.b")


SINCE = """{{ config(materialized='incremental') }} select id, name, score from {{ ref('s') }}
    {% if is_incremental() %} where score > (select coalesce(max(score), 0) from {{ this }}) {% endif %}"""


@pytest.mark.parametrize("has_catalog", [True, False])
def test_own_table(tmp_path: Path, has_catalog: bool) -> None:
    """An incremental model that reads its own table has the whole lineage of its other tables, and no other."""
    run(tmp_path, "one", models__s__sql=S, models__inc__sql=SINCE)
    if has_catalog:
        dbt(tmp_path, "docs", "generate", target=tmp_path / "docs")
        (tmp_path / "columns.json").unlink()
    second = run(tmp_path, "two")

    facet = second.output_facets("model.shop.inc")["columnLineage"]
    assert {"id", "name", "score"} == facet["fields"].keys()
    read = [origin for field in facet["fields"].values() for origin in field["inputFields"]]
    assert {("warehouse.dev.s", "score")} == {(origin["name"], origin["field"]) for origin in facet["dataset"]}
    assert {"warehouse.dev.s"} == {origin["name"] for origin in read}
    assert not second.left_out("model.shop.inc")


@pytest.mark.parametrize("change", ["append_new_columns", "ignore"])
def test_older_types(tmp_path: Path, change: str) -> None:
    """A table keeps its types when those of its SQL change; a snapshot does as well."""

    def files(data_type: str) -> dict[str, Any]:
        return {
            "models__s__sql": f"select 1 as id, 2::{data_type} as amount",
            "models__inc__sql": INCREMENTAL % (change, f"id, amount::{data_type} as amount"),
            "snapshots__history__sql": "{% snapshot history %}{{ config(unique_key='id', strategy='check', "
            f"check_cols='all') }}}} select id, amount::{data_type} as amount "
            "from {{ ref('s') }}{% endsnapshot %}",
        }

    first = run(tmp_path, "one", **files("bigint"))
    second = run(tmp_path, "two", **files("integer"))
    (tmp_path / "columns.json").unlink()
    third = run(tmp_path, "three", **files("integer"))

    def types(built: Build) -> list[str | None]:
        return [
            next(f.get("type") for f in built.output_facets(name)["schema"]["fields"] if f["name"] == "amount")
            for name in ("model.shop.inc", "snapshot.shop.history")
        ]

    assert ["BIGINT", "BIGINT"] == types(first) == types(second)
    assert [None, None] == types(third)


def test_reloaded_seed(tmp_path: Path) -> None:
    """A seed that is loaded again keeps its names and types; with another header it is still the old table."""
    first = run(
        tmp_path,
        "one",
        seeds__raw__csv="id,name\n1,Ada\n",
        models__below__sql="{{ config(materialized='table') }} select * from {{ ref('raw') }}",
    )
    assert ["id", "name"] == first.schema("seed.shop.raw") == first.schema("model.shop.below")

    renamed = "key,name\n1,Ada\n"
    second = run(tmp_path, "two", seeds__raw__csv=renamed)
    assert ["id", "name"] == columns(tmp_path, "raw") == second.schema("seed.shop.raw")
    assert ["id", "name"] == second.schema("model.shop.below")

    (tmp_path / "columns.json").unlink()
    third = run(tmp_path, "three")
    assert "schema" not in third.output_facets("seed.shop.raw")
    assert third.left_out("seed.shop.raw")
    assert "schema" not in third.output_facets("model.shop.below")
    assert third.left_out("model.shop.below")

    fourth = run(tmp_path, "four", "seed", "--full-refresh")
    assert ["key", "name"] == columns(tmp_path, "raw") == fourth.schema("seed.shop.raw")


@pytest.mark.parametrize("selected", [(), ("--select", "below")], ids=["all", "model"])
def test_seed_that_is_older_than_lineage(tmp_path: Path, selected: tuple[str, ...]) -> None:
    """A model that names columns of a seed has them, spelled as in the seed's file, though the seed has no schema."""
    below = "select ID, upper(raw.Name) as Label from {{ ref('raw') }} where Region = 'EU'"
    run(
        tmp_path,
        "one",
        seeds__raw__csv="Id,name,region\n1,Ada,EU\n",
        models__below__sql="{{ config(materialized='table') }}" + f"{below} union {below}",
    )
    (tmp_path / "columns.json").unlink()

    second = run(tmp_path, "two")
    assert "schema" not in second.output_facets("seed.shop.raw")
    assert second.left_out("seed.shop.raw")
    last = run(tmp_path, "three", "build", *selected)

    assert ["Id", "Label"] == columns(tmp_path, "below") == last.schema("model.shop.below")
    lineage = last.output_facets("model.shop.below")["columnLineage"]
    direct = {
        name: {origin["field"] for origin in field["inputFields"] if origin["transformations"][0]["type"] == "DIRECT"}
        for name, field in lineage["fields"].items()
    }
    assert {"Id": {"Id"}, "Label": {"name"}} == direct
    assert {"Id", "name", "region"} == {origin["field"] for origin in lineage["dataset"]}
    assert not last.left_out("model.shop.below")


def test_external(tmp_path: Path) -> None:
    """What is read from a file has the types that DuckDB finds there, and its partitions are the last columns."""
    select = "select 1::smallint as id, 2::decimal(9, 2) as amount from {{ ref('s') }}"
    built = run(
        tmp_path,
        "one",
        models__s__sql=S,
        models__c__sql="{{ config(materialized='external', format='csv', location='c.csv') }}" + select,
        models__p__sql="{{ config(materialized='external', location='p', options={'partition_by': 'id'}) }}" + select,
        models__below__sql="{{ config(materialized='table') }} select * from {{ ref('c') }}",
        models__under__sql="{{ config(materialized='table') }} select * from {{ ref('p') }}",
    )

    assert ["amount", "id"] == columns(tmp_path, "under")
    assert ["id", "amount"] == columns(tmp_path, "below") == built.schema("model.shop.below")
    for name in ("model.shop.c", "model.shop.below", "model.shop.p", "model.shop.under"):
        assert not any("type" in field for field in built.output_facets(name)["schema"]["fields"])
    assert {"amount", "id"} == set(built.schema("model.shop.p"))
    assert not any("ordinal_position" in field for field in built.output_facets("model.shop.p")["schema"]["fields"])


def test_table_function(tmp_path: Path) -> None:
    """A table function is no dataset: what calls it reads the tables in its SQL, and has no certain columns."""
    built = run(
        tmp_path,
        "one",
        models__s__sql=S,
        models__f__sql="""{{ config(materialized='table_function', parameters=['p']) }}
            select id from {{ ref('s') }} where id = p""",
        models__below__sql="{{ config(materialized='table') }} select * from {{ ref('f') }}(1)",
    )

    assert ["id"] == columns(tmp_path, "below")
    assert [] == built.end("model.shop.f")["outputs"] == built.left_out("model.shop.f")
    assert {"warehouse.dev.s"} == built.inputs("model.shop.f") == built.inputs("model.shop.below")
    assert built.left_out("model.shop.below")


def test_stale_catalog(tmp_path: Path) -> None:
    """A catalog that is older than a table's definition, or than a failed build, tells nothing about the table."""
    table, python = "{{ config(materialized='table') }} ", "def model(dbt, session):\n    return session.sql('%s')\n"

    def files(half: str, order: str, selected: str) -> dict[str, Any]:
        return {
            "models__s__sql": f"select id, {half} as half from {{{{ ref('raw') }}}}",
            "models__inc__sql": INCREMENTAL % ("ignore", order),
            "models__py__py": python % selected,
            "models__below__sql": table + "select *, half + 1 as more from {{ ref('s') }}",
            "models__under__sql": table + "select * from {{ ref('py') }}",
        }

    names = ["model.shop.s", "model.shop.inc", "model.shop.py", "model.shop.below", "model.shop.under"]
    before = files("id * 2", "id, half", "select 1 as a, 2 as b")
    run(tmp_path, "one", seeds__raw__csv="id,amount\n1,2\n", **before)
    assert dbt(tmp_path, "docs", "generate", target=tmp_path / "docs").returncode == 0
    same = run(tmp_path, "two")
    for name in names:
        fields = same.output_facets(name)["schema"]["fields"]
        assert all({"type", "ordinal_position"} <= field.keys() for field in fields), name

    after = files("id / 2", "half, id", "select 1 as a, 3 as c")
    changed = run(tmp_path, "three", "build", "--full-refresh", full_refresh=True, **after)
    types = {
        field["name"]: field.get("type")
        for name in names
        if "schema" in changed.output_facets(name)
        for field in changed.output_facets(name)["schema"]["fields"]
    }
    assert ["half", "id"] == columns(tmp_path, "inc")
    assert {"id": "INTEGER", "half": None, "more": None} == types
    assert not any("ordinal_position" in f for f in changed.output_facets("model.shop.inc")["schema"]["fields"])
    assert "schema" not in changed.output_facets("model.shop.py")
    assert "schema" not in changed.output_facets("model.shop.under")

    run(tmp_path, "four", "build", "--select", "s", models__s__sql="select id, missing from {{ ref('raw') }}")
    fifth = run(tmp_path, "five", "build", "--select", "below")
    assert "schema" not in fifth.output_facets("model.shop.below")
    assert fifth.left_out("model.shop.below")


def test_shared_name(tmp_path: Path) -> None:
    """A table that another model has built since under the same name has no columns of the first one."""
    table, below = "{{ config(materialized='table', alias='t') }} ", "{{ config(materialized='table') }} select * from "
    files: dict[str, Any] = {
        "models__s__sql": S,
        "models__a__sql": table + "select id, name from {{ ref('s') }}",
        "models__below__sql": below + "{{ ref('a') }}",
    }
    run(tmp_path, "one", **files)
    for name in ("a", "below"):
        (tmp_path / "models" / f"{name}.sql").unlink()
    run(tmp_path, "two", models__c__sql=table + "select id, score from {{ ref('s') }}")
    (tmp_path / "models" / "c.sql").unlink()
    third = run(tmp_path, "three", "build", "--select", "below", **files)

    assert ["id", "score"] == columns(tmp_path, "below")
    assert "schema" not in third.output_facets("model.shop.below")
    assert third.left_out("model.shop.below")


def test_killed_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that is killed may have built other columns, even though the file of the model has not changed."""
    run(
        tmp_path,
        "one",
        macros__picked__sql="{% macro picked() %}id, name{% endmacro %}",
        models__s__sql=S,
        models__a__sql="{{ config(materialized='table') }} select {{ picked() }} from {{ ref('s') }}",
        models__below__sql="{{ config(materialized='table') }} select * from {{ ref('a') }}",
    )
    with monkeypatch.context() as killed:
        killed.setattr(ColumnCache, "save", lambda _: None)
        run(
            tmp_path, "two", "build", "--select", "a", macros__picked__sql="{% macro picked() %}id, score{% endmacro %}"
        )
    third = run(tmp_path, "three", "build", "--select", "below")

    assert ["id", "score"] == columns(tmp_path, "below")
    assert "schema" not in third.output_facets("model.shop.below")
    assert third.left_out("model.shop.below")
