"""Tests of where dbt writes compiled SQL, for microbatch models and snapshots; with real dbt."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pipeline.floe.dbt.snapshot_log import SnapshotLog, inner_query

from tests.lineage.builds import Build, build, write_project

FILES = {
    "seeds/raw.csv": "id,amount,day\n1,10,2026-11-20\n2,20,2026-11-21\n",
    "models/happened.sql": """{{ config(event_time='day') }}
        select id, amount, cast(day as timestamp) as day from {{ ref('raw') }}""",
    "models/daily.sql": """{{ config(materialized='incremental', incremental_strategy='microbatch', event_time='day',
        batch_size='day', begin='2026-11-20') }}
        select id, amount * 2 as doubled, day from {{ ref('happened') }}""",
    "models/below.sql": "select * from {{ ref('daily') }}",
    "models/between.sql": "{{ config(materialized='ephemeral') }} select id, amount from {{ ref('raw') }}",
    "snapshots/in_sql.sql": """{% snapshot in_sql %}{{ config(unique_key='id', strategy='check', check_cols='all') }}
        -- ünïcode, and a parenthesis ) that closes nothing
        select id, amount as paid from {{ ref('between') }} where id > (select 0)
        {% endsnapshot %}""",
    "snapshots/in_yaml.yml": """
snapshots:
  - name: in_yaml
    relation: ref('raw')
    config: {unique_key: id, strategy: check, check_cols: all}
""",
    "models/history.sql": "select paid, dbt_valid_from from {{ ref('in_sql') }}",
}
RAW = "warehouse.dev.raw"
META = ["dbt_scd_id", "dbt_updated_at", "dbt_valid_from", "dbt_valid_to"]


@pytest.fixture(scope="module", params=["first run", "second run"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Return a build of the project: snapshots take other statements from the second run on."""
    folder = write_project(tmp_path_factory.mktemp("compiled"), FILES)
    event_times = ("--event-time-start=2026-11-20", "--event-time-end=2026-11-22")
    if request.param == "second run":
        build(folder, "build", *event_times, target_path="before", kept=folder / "columns.json")
    return build(folder, "build", *event_times, kept=folder / "columns.json")


def test_microbatch(run: Build) -> None:
    """A microbatch model has the columns of its batches, and so has what reads it."""
    happened = "warehouse.dev.happened"

    assert ["id", "doubled", "day"] == run.schema("model.shop.daily") == run.schema("model.shop.below")
    assert {
        "id": {(happened, "id")},
        "doubled": {(happened, "amount")},
        "day": {(happened, "day")},
    } == run.origins("model.shop.daily")
    assert "sql" in run.end("model.shop.daily")["job"]["facets"]


def test_snapshot_in_sql(run: Build) -> None:
    """A snapshot block has the columns of its query, traced through an ephemeral model, and dbt's own."""
    origins = run.origins("snapshot.shop.in_sql")

    assert ["id", "paid", *META] == run.schema("snapshot.shop.in_sql")
    assert ({(RAW, "id")}, {(RAW, "amount")}) == (origins["id"], origins["paid"])
    assert {"paid": {("warehouse.dev.in_sql", "paid")}} == {"paid": run.origins("model.shop.history")["paid"]}
    assert [] == run.left_out("snapshot.shop.in_sql")


def test_snapshot_in_yaml(run: Build) -> None:
    """A snapshot in YAML has the columns of its relation, and dbt's own."""
    assert ["id", "amount", "day", *META] == run.schema("snapshot.shop.in_yaml")
    assert {(RAW, "amount")} == run.origins("snapshot.shop.in_yaml")["amount"]


def test_rotated(tmp_path: Path) -> None:
    """A log that dbt has rotated between two questions is read to its end, and then its successor."""

    def line(unique_id: str, sql: str) -> str:
        event = {"info": {"name": "SQLQuery"}, "data": {"node_info": {"unique_id": unique_id}, "sql": sql}}
        return json.dumps(event) + "\n"

    file = tmp_path / "dbt.log"
    log = SnapshotLog(file, "duckdb")
    assert log.query("snapshot.shop.a") is None
    file.write_text(line("snapshot.shop.a", "create table t as (select *, 1 from (select 1 as a) sbq)") + "{torn")
    assert "select 1 as a" == log.query("snapshot.shop.a")
    with file.open("a") as more:
        more.write(
            "\n" + line("snapshot.shop.b", "with snapshot_query as (select 2 as b) select * from snapshot_query")
        )
    file.rename(tmp_path / "dbt.log.1")
    file.write_text(line("snapshot.shop.c", "x (select 3) sbq"))

    assert ("select 2 as b", "select 3") == (log.query("snapshot.shop.b"), log.query("snapshot.shop.c"))


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        (
            "create table t as select * from (select ')' as x, (1) from (select 1) sbq) sbq",
            "select ')' as x, (1) from (select 1) sbq",
        ),
        (
            "with snapshot_query as (with snapshot_query as (select 1) select 2) select 3",
            "with snapshot_query as (select 1) select 2",
        ),
        ("select 'unclosed from (select 1) sbq", None),
        ("select * from (select 1) other", None),
    ],
)
def test_inner_query(statement: str, expected: str | None) -> None:
    """The query is cut out as dbt put it in, whatever it contains; nothing of a statement that is not understood."""
    assert expected == inner_query(statement, "duckdb")
