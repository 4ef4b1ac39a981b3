"""Tests of the columns that a table has after several runs, with real dbt: they may differ from those of its SQL."""

from __future__ import annotations

from pathlib import Path

import duckdb

from tests.lineage.builds import Build, build, write_project


def run(folder: Path, name: str, *arguments: str, **files: str) -> Build:
    """Run dbt in a project with its own `.floe`, after a change of its files."""
    write_project(folder, {path.replace("__", "/", 1).replace("__", "."): text for path, text in files.items()})
    return build(folder, *(arguments or ("build",)), target_path=name, kept=folder / "columns.json")


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
