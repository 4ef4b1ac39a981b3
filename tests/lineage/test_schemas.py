"""Tests of the columns that are known without querying the warehouse."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pipeline.floe.dbt.catalog import Catalog
from pipeline.floe.dbt.manifest_graph import Graph, Node
from pipeline.floe.lineage.columns import TableColumns, read_query
from pipeline.floe.lineage.columns.cache import ColumnCache
from pipeline.floe.lineage.columns.schemas import Schemas
from pipeline.floe.lineage.sources import CommandSources
from pipeline.floe.step import Step

SQL = {
    "staged": 'with source as (select * from "shop"."main"."raw") select id, upper(name) as name from source',
    "open": 'select * from "shop"."main"."events"',
    "history": None,
}


def node(kind: str, name: str, *upstream: str, **more: Any) -> dict[str, Any]:
    """Return a node of a manifest."""
    unique_id = f"{kind}.shop.{name}"
    return {
        "unique_id": unique_id,
        "resource_type": kind,
        "name": name,
        "alias": name,
        "package_name": "shop",
        "original_file_path": f"models/{name}.sql",
        "database": "shop",
        "schema": "main",
        "relation_name": f'"shop"."main"."{name}"',
        "config": {"materialized": "table"},
        "depends_on": {"nodes": list(upstream)},
        "checksum": {"name": "sha256", "checksum": name},
    } | more


@pytest.fixture
def graph(tmp_path: Path) -> Graph:
    """Return a project with a seed, an undocumented and a documented source, models and a snapshot."""
    seed = tmp_path / "seeds" / "raw.csv"
    seed.parent.mkdir()
    seed.write_text("\ufeffid,name\n1,Ada\n")
    nodes = [
        node("seed", "raw", root_path=str(tmp_path), original_file_path="seeds/raw.csv"),
        node("model", "staged", "seed.shop.raw"),
        node("model", "open", "source.shop.events"),
        node("model", "python", "seed.shop.raw", language="python", columns={"x": {"name": "x", "data_type": "INT"}}),
        node(
            "snapshot",
            "history",
            "model.shop.staged",
            original_file_path="snapshots/history.yml",
            config={"materialized": "snapshot", "unique_key": "id", "strategy": "timestamp", "updated_at": "name"},
        ),
    ]
    compiled = tmp_path / "compiled" / "shop" / "models"
    compiled.mkdir(parents=True)
    for name, sql in SQL.items():
        if sql:
            (compiled / f"{name}.sql").write_text(sql)
    source = node("source", "events", columns={"id": {"name": "id", "data_type": "BIGINT"}})
    told = {
        "metadata": {"adapter_type": "duckdb", "project_name": "shop"},
        "nodes": {each["unique_id"]: each for each in nodes},
        "sources": {source["unique_id"]: source},
    }
    return Graph(told, tmp_path)


SEED_COLUMNS = {
    "id": {"name": "id", "index": 1, "type": "BIGINT"},
    "name": {"name": "name", "index": 2, "type": "VARCHAR"},
}


def schemas(
    graph: Graph, catalog: Catalog | None = None, kept: Path | None = None, built: list[Node] | None = None
) -> Schemas:
    """Return the columns of the project's tables after a run that has built all of them, or those in `built`."""

    def types(_file: Path, _node: Node) -> dict[str, str]:
        return {"id": "INTEGER", "name": "TEXT"}

    known = Schemas(graph, "duckdb", ColumnCache(kept), catalog or Catalog(), types)
    for each in graph._nodes.values() if built is None else built:
        if each["resource_type"] != "source":
            known.ended(each, is_written=True, is_new=True)
    return known


def cataloged(name: str, columns: dict[str, Any], **other: str) -> dict[str, Any]:
    """Return a table as dbt's catalog has it."""
    return {"metadata": {"database": "shop", "schema": "MAIN", "name": name, **other}, "columns": columns}


def test_seed(graph: Graph) -> None:
    """A seed has the columns of its file, without the byte order mark, and the types that dbt gives them."""
    assert TableColumns({"id": "INTEGER", "name": "TEXT"}) == schemas(graph).table(graph.node("seed.shop.raw"))


def test_model(graph: Graph) -> None:
    """A model has the columns of its SQL, and the types that are proven."""
    assert TableColumns({"id": "INTEGER", "name": None}) == schemas(graph).table(graph.node("model.shop.staged"))


def test_source(graph: Graph) -> None:
    """A documented source may have more columns than its documentation, and so has what selects all of it."""
    known = schemas(graph)

    assert TableColumns({"id": "BIGINT"}, complete=False) == known.table(graph.node("source.shop.events"))
    assert TableColumns({}, complete=False) == known.table(graph.node("model.shop.open"))


def test_catalog(graph: Graph) -> None:
    """With a catalog a source's columns are all known, in its order, and so are those of what selects them."""
    columns = {"at": {"name": "at", "type": "DATE", "index": 2}, "id": {"name": "id", "type": "BIGINT", "index": 1}}
    known = schemas(graph, Catalog({"sources": {"source.shop.events": cataloged("events", columns)}}))

    for unique_id in ("source.shop.events", "model.shop.open"):
        assert [("id", "BIGINT"), ("at", "DATE")] == list(known.table(graph.node(unique_id)).columns.items())
        assert known.table(graph.node(unique_id)).complete


@pytest.mark.parametrize("where", [{"schema": "prod"}, {"database": "prod"}])
def test_other_catalog(graph: Graph, where: dict[str, str]) -> None:
    """A catalog of another output tells nothing, because its table of the same node is another one."""
    columns = {"other": {"name": "other", "type": "DATE", "index": 1}}
    known = schemas(graph, Catalog({"sources": {"source.shop.events": cataloged("events", columns, **where)}}))

    assert TableColumns({"id": "BIGINT"}, complete=False) == known.table(graph.node("source.shop.events"))


def test_python(graph: Graph) -> None:
    """A model in Python has the columns that are documented, and no query."""
    known = schemas(graph)

    assert TableColumns({"x": "INT"}, complete=False) == known.table(graph.node("model.shop.python"))
    assert known.query(graph.node("model.shop.python")) is None


def test_snapshot(graph: Graph) -> None:
    """A snapshot has dbt's own columns besides, made of its key and of the time that it goes by."""
    query = schemas(graph).query(graph.node("snapshot.shop.history"))

    assert query is not None
    assert ["id", "name", "dbt_scd_id", "dbt_updated_at", "dbt_valid_from", "dbt_valid_to"] == list(query.columns)
    assert {"id", "name"} == {origin.column for origin in query.columns["dbt_scd_id"].origins}
    assert {"name"} == {origin.column for origin in query.columns["dbt_valid_from"].origins}


def test_not_in_this_run(graph: Graph, tmp_path: Path) -> None:
    """A model that this run does not compile has the columns of the last run, unless its file has changed since."""
    known = schemas(graph, kept=tmp_path / "columns.json")
    expected = known.table(graph.node("model.shop.staged"))
    known._cache.save()
    (tmp_path / "compiled" / "shop" / "models" / "staged.sql").unlink()

    kept = tmp_path / "columns.json"
    assert expected == schemas(graph, kept=kept, built=[]).table(graph.node("model.shop.staged"))

    changed = {**graph.node("model.shop.staged"), "checksum": {"checksum": "another"}}
    assert TableColumns({}, complete=False) == schemas(graph, kept=kept, built=[]).table(changed)


@pytest.mark.parametrize("is_written", [True, False])
def test_failed(graph: Graph, tmp_path: Path, is_written: bool) -> None:
    """A build that fails may have changed the table: nothing is known of it, neither in this run nor in later ones."""
    first = schemas(graph, kept=tmp_path / "columns.json")
    staged = graph.node("model.shop.staged")
    expected = first.table(staged) if is_written else TableColumns({}, complete=False)
    first.table(staged)
    first._cache.save()

    second = schemas(graph, kept=tmp_path / "columns.json", built=[])
    second.ended(staged, is_written=is_written)
    assert expected == second.table(staged)
    second._cache.save()

    assert expected == schemas(graph, kept=tmp_path / "columns.json", built=[]).table(staged)


def test_other_database(graph: Graph, tmp_path: Path) -> None:
    """A table of another target or of another database is another table, whatever dbt calls its node."""
    first = schemas(graph, kept=tmp_path / "columns.json")
    staged = graph.node("model.shop.staged")
    assert first.table(staged).complete
    first._cache.save()

    other = {**staged, "relation_name": '"shop"."other"."staged"'}
    assert not schemas(graph, kept=tmp_path / "columns.json", built=[]).table(other).complete
    cache = ColumnCache(tmp_path / "columns.json")
    other = Schemas(graph, "duckdb", cache, Catalog(), lambda _file, _node: {}, "duckdb:///other")
    assert not other.table(staged).complete


def test_two_processes(graph: Graph, tmp_path: Path) -> None:
    """A process that ends later keeps what another has stored in between."""
    later = ColumnCache(tmp_path / "columns.json")
    assert later.get("a", "key") is None
    schemas(graph, kept=tmp_path / "columns.json")
    other = ColumnCache(tmp_path / "columns.json")
    other.put("a", "key", 1)
    other.save()
    later.put("b", "key", 2)
    later.save()

    assert (1, 2) == tuple(ColumnCache(tmp_path / "columns.json").get(name, "key") for name in "ab")


def test_killed(graph: Graph, tmp_path: Path) -> None:
    """A table whose build has started in a process that was killed has no columns until it is built again."""
    file, staged = tmp_path / "columns.json", graph.node("model.shop.staged")

    first = schemas(graph, kept=file)
    assert first.table(staged).complete
    first._cache.save()
    killed = schemas(graph, kept=file, built=[])
    killed.started(staged)

    for _ in range(2):
        reader = schemas(graph, kept=file, built=[])
        assert not reader.table(staged).complete
        reader._cache.save()

    again = schemas(graph, kept=file)
    assert again.table(staged).complete
    again._cache.save()
    assert schemas(graph, kept=file, built=[]).table(staged).complete
    assert [file] == list(tmp_path.glob("columns*"))


@pytest.mark.parametrize(("command", "is_known"), [("clone", False), ("build", True)])
def test_clone(graph: Graph, tmp_path: Path, command: str, is_known: bool) -> None:
    """`dbt clone` replaces tables without an event for each, so no table has the columns that it was built with."""
    staged = graph.node("model.shop.staged")
    first = schemas(graph, kept=tmp_path / "columns.json")
    assert first.table(staged).complete
    first._cache.save()

    invocation = SimpleNamespace(adapter=None, manifest={}, project_dir=tmp_path, dagster_dbt_translator=None)
    run = SimpleNamespace(invocation=invocation, arguments=["dbt", "--quiet", command, "--state", "prod"])
    settings = SimpleNamespace(state_dir=tmp_path, owner="", prices={})
    CommandSources(run, settings, Step(run_id="", job_name="", key="", run_started_at=datetime.now(UTC)))

    assert is_known == schemas(graph, kept=tmp_path / "columns.json", built=[]).table(staged).complete


def test_loaded_source(graph: Graph) -> None:
    """A source has the columns that the asset which loads it has recorded, unless a newer catalog has others."""
    source = graph.node("source.shop.events")

    def table(loaded: list[str], at: float, catalog: Catalog | None = None) -> TableColumns:
        known = Schemas(
            graph,
            "duckdb",
            ColumnCache(None),
            catalog or Catalog(),
            lambda _file, _node: {},
            loaded=lambda _: (loaded, at),
        )
        return known.table(source)

    metadata = {"database": "shop", "schema": "main", "name": "events"}
    columns = {"id": {"name": "id", "type": "INTEGER", "index": 1}}
    content = {
        "metadata": {"generated_at": "2026-01-02T00:00:00Z"},
        "nodes": {},
        "sources": {"source.shop.events": {"metadata": metadata, "columns": columns}},
    }
    catalog, second = Catalog(content), datetime(2026, 1, 2, tzinfo=UTC).timestamp()

    documented = TableColumns({"id": "BIGINT", "at": None})
    assert documented == table(["id", "at"], 1.0)
    assert TableColumns({"id": "INTEGER"}) == table(["id", "at"], second - 1, catalog)
    assert documented == table(["id", "at"], second + 1, catalog)
    assert not table([], 0.0).complete


def test_changed_upstream(graph: Graph, tmp_path: Path) -> None:
    """A model is read again when a column above it has changed, though its own SQL has not."""
    known = schemas(graph, kept=tmp_path / "columns.json")
    known.table(graph.node("model.shop.staged"))
    known._cache.save()
    (tmp_path / "seeds" / "raw.csv").write_text("key,name\n1,Ada\n")
    graph.__dict__.pop("_builders")  # as of a run of its own
    seed = graph._nodes["seed.shop.raw"]
    graph._nodes["seed.shop.raw"] = {**seed, "checksum": {"checksum": "new"}}

    query = schemas(graph, kept=tmp_path / "columns.json").query(graph.node("model.shop.staged"))

    assert query is not None
    assert "id" not in query.columns
    assert not query.complete


@pytest.mark.parametrize("is_built", [True, False])
def test_catalog_after_a_run_without(graph: Graph, tmp_path: Path, is_built: bool) -> None:
    """A seed that was there before the first run with lineage is known once there is a catalog, and stays known."""
    seed, catalog = graph.node("seed.shop.raw"), {"seed.shop.raw": cataloged("raw", SEED_COLUMNS)}

    def run(content: dict[str, Any], *, is_built: bool) -> TableColumns:
        known = schemas(graph, Catalog({"nodes": content}), tmp_path / "columns.json", built=[])
        if is_built:
            known.ended(seed, is_written=True, is_new=False)
        table = known.table(seed)
        known._cache.save()
        return table

    assert not run({}, is_built=True).complete

    assert TableColumns({"id": "BIGINT", "name": "VARCHAR"}) == run(catalog, is_built=is_built)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"version": 0, "nodes": {}}', '{"version": 1}'])
def test_unreadable(content: str, tmp_path: Path) -> None:
    """A file that is torn, or of another version, is as good as none."""
    (tmp_path / "columns.json").write_text(content)
    kept = ColumnCache(tmp_path / "columns.json")

    assert kept.get("model.shop.staged", "key") is None
    kept.put("model.shop.staged", "key", 1)
    kept.save()
    assert 1 == json.loads((tmp_path / "columns.json").read_text())["nodes"]["model.shop.staged"]["value"]


def test_no_room(tmp_path: Path) -> None:
    """A folder that cannot be written costs the next run's time and nothing else."""
    (tmp_path / "file").write_text("")
    kept = ColumnCache(tmp_path / "file" / "columns.json")
    kept.put("model.shop.staged", "key", 1)

    kept.save()


def of_sql(graph: Graph, tmp_path: Path, sql: str, **config: Any) -> Any:
    """Return the columns of the model `staged` with this SQL and configuration."""
    (tmp_path / "compiled" / "shop" / "models" / "staged.sql").write_text(sql)
    model = graph.node("model.shop.staged")
    model["config"] = {"materialized": "table", **config}
    return model


CONTRACT = {"enforced": True}


@pytest.mark.parametrize(
    ("config", "order", "in_order"),
    [
        ({"materialized": "table", "contract": CONTRACT}, ["total", "id", "label"], True),
        ({"materialized": "view", "contract": CONTRACT}, ["id", "label", "total"], True),
        ({"materialized": "incremental", "contract": CONTRACT}, ["id", "label", "total"], False),
        ({"materialized": "incremental"}, ["id", "label", "total"], False),
        ({"materialized": "table"}, ["id", "label", "total"], True),
    ],
)
def test_stored_order(graph: Graph, tmp_path: Path, config: dict[str, Any], order: list[str], in_order: bool) -> None:
    """A table with a contract has the order of its YAML; of one that earlier runs have written it is not known."""
    model = of_sql(graph, tmp_path, "select 1::bigint as id, 'a' as label, 2::decimal(18, 2) as total", **config)
    model["columns"] = {name: {"name": name} for name in ("total", "id", "label")}

    table = schemas(graph).table(model)

    assert (order, True, in_order) == (list(table.columns), table.complete, table.in_order)


def test_cataloged_order(graph: Graph, tmp_path: Path) -> None:
    """The catalog has the order and the types of an incremental table that was there, if it has the same columns."""
    model = of_sql(graph, tmp_path, "select 1::bigint as id, 'a' as label", materialized="incremental")
    columns = {
        "label": {"name": "label", "type": "VARCHAR", "index": 1},
        "id": {"name": "id", "type": "INTEGER", "index": 2},
    }

    def table(columns: dict[str, Any]) -> TableColumns:
        known = schemas(graph, Catalog({"nodes": {"model.shop.staged": cataloged("staged", columns)}}), built=[])
        known.ended(model, is_written=True, is_new=False)
        return known.table(model)

    assert TableColumns({"label": "VARCHAR", "id": "INTEGER"}) == table(columns)
    assert not table({"id": columns["id"]}).in_order


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("with q (a, b) as (select * from {}) select a, b from q", {"a": None, "b": None}),
        ("select * from {} union all select name, id from {}", {"id": None, "name": None}),
        ("select name, id from {} union all select * from {}", {"name": None, "id": None}),
        ("select * from (select * from {}) as q (a)", {}),
        ("select id, upper(name) as name from {}", {"id": "id", "name": "name"}),
        ("select * from {} union all by name select name, id from {}", {"id": "id", "name": "name"}),
        ("select * from {} except select 'a', 1", {"id": "id", "name": "name"}),
        ("select a.id, b.name from {} a join {} b using (id)", {"id": "id", "name": "name"}),
    ],
)
def test_unordered(sql: str, expected: dict[str, str | None]) -> None:
    """What is matched by position with a table whose order is not known has no certain origin; by name it has."""
    table = TableColumns({"id": "BIGINT", "name": "TEXT"}, in_order=False)

    query = read_query(sql.replace("{}", "shop.t"), "duckdb", {"shop.t": table})

    origins = {
        name: next(iter(origin.column for origin in column.origins if origin.type == "DIRECT"), None)
        for name, column in query.columns.items()
    }
    assert expected == origins


@pytest.mark.parametrize(
    ("hook", "is_altered"),
    [
        ("alter table {{ this }} rename column channel to kanal", True),
        ("ALTER TABLE {{ this }}\n  ADD COLUMN extra int", True),
        ("alter table {{ this }} add extra int", True),
        ("alter table {{ this }} drop column x", True),
        ("alter table {{ this }} add constraint pk primary key (id)", False),
        ("alter table {{ this }} owner to analysts", False),
        ("grant select on {{ this }} to reporter", False),
        ("create index on {{ this }} (id)", False),
        ("create unique index if not exists i on {{ this }} (id); analyze {{ this }}", False),
        ("{# a note #} vacuum {{ this }}", False),
        ("comment on table {{ this }} is 'alter; drop column x'", False),
        ("select 1 from {{ ref('other') }}", False),
        ("{% if is_incremental() %} analyze {{ this }} {% else %} vacuum {{ this }} {% endif %}", False),
        ("", False),
        ("alter table {{ this }} add constraint pk primary key (id), owner to analysts", False),
        ("alter table {{ this }} add constraint pk primary key (id), add column extra int", True),
        ("alter table {{ this }} alter n type varchar", True),
        ("alter table {{ this }} swap with other", True),
        ("create or replace table {{ this }} as select 1 as id", True),
        ("create or replace view {{ this }} as select 1 as id", True),
        ("update {{ this }} set name = (select max(score) from s1)", True),
        ("insert into {{ this }} select * from s1", True),
        ("delete from {{ this }} where id in (select id from s1)", True),
        ("merge into {{ this }} using s1 on true when matched then delete", True),
        ("create or replace temp macro upper(x) as lower(x)", True),
        ("set search_path = other", True),
        ("select refresh({{ this }})", True),
        ("select 1 as id into other", True),
        ("{{ add_column(this) }}", True),
        ("{{ var('statement') }}", True),
        ("{% set _ = run_query('alter') %}", True),
        ("grant select on {{ this }} to a; alter table {{ this }} drop column x", True),
        ("select '--'; drop table {{ this }}", True),
        ("select ';' -- ;\n; update {{ this }} set id = 1", True),
        ("{% if a %} grant {% else %} alter {% endif %} table {{ this }} drop column x", True),
        ("explain analyze delete from {{ this }}", True),
        ("this is no SQL '", True),
    ],
)
@pytest.mark.parametrize("kind", ["pre-hook", "post-hook"])
def test_hook(graph: Graph, hook: str, is_altered: bool, kind: str) -> None:
    """A hook that may change the columns or values of a table leaves them unknown, with the reason."""
    model = graph.node("model.shop.staged")
    model["config"] = {"materialized": "table", kind: [{"sql": hook, "transaction": True}]}
    known = schemas(graph)
    query = known.query(model)

    assert query is not None
    assert is_altered == bool(query.problem)
    assert is_altered != known.table(model).complete


@pytest.mark.parametrize(
    "how",
    [
        {"config": {"sql_header": "create temp macro upper(x) as 'x';"}},
        {"depends_on": {"nodes": ["seed.shop.raw"], "macros": ["macro.dbt.set_sql_header"]}},
        {"config": {"materialized": "insert_by_period"}},
        {"config": {"contract": CONTRACT, "post-hook": [{"sql": "alter table {{ this }} drop column name"}]}},
    ],
)
def test_nothing_claimed(graph: Graph, how: dict[str, Any]) -> None:
    """Neither documentation nor a contract is a claim about a table that something else changes."""
    model = {**graph.node("model.shop.staged"), "columns": {"id": {"name": "id", "data_type": "int"}}, **how}
    known = schemas(graph)
    query = known.query(model)

    assert query is not None
    assert query.problem
    assert TableColumns({}, complete=False) == known.table(model)


def test_altered_seed(graph: Graph) -> None:
    """A seed that a hook alters is not its file, and its run has the reason."""
    seed = {**graph.node("seed.shop.raw"), "config": {"post-hook": ["alter table {{ this }} add column extra int"]}}
    known = schemas(graph)
    query = known.query(seed)

    assert query is not None
    assert query.problem
    assert TableColumns({}, complete=False) == known.table(seed)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("id,a,a, b ,", ["id", "a", "a_2", "b", "e"]),
        ("id,a", ["id", "a"]),
    ],
)
def test_header(graph: Graph, tmp_path: Path, header: str, expected: list[str]) -> None:
    """A seed has the names that dbt gives to its columns: blank and repeated ones get others."""
    (tmp_path / "seeds" / "raw.csv").write_text(f"{header}\n" + "1," * header.count(",") + "1\n")
    seed = graph.node("seed.shop.raw")

    for types in (dict.fromkeys(expected, "INTEGER"), {}):
        known = Schemas(graph, "duckdb", ColumnCache(None), Catalog(), lambda _file, _node, types=types: types)
        known.ended(seed, is_written=True, is_new=True)
        table = known.table(seed)
        assert table.complete or not types
        assert list(table.columns) == (expected if types or header == "id,a" else [])


def test_large_seed(graph: Graph, tmp_path: Path) -> None:
    """The content of a large seed has no hash in the manifest: its header is read again once the file has changed."""
    seed = graph.node("seed.shop.raw")
    seed["checksum"] = {"name": "path", "checksum": "seeds/raw.csv"}
    first = schemas(graph, kept=tmp_path / "columns.json")
    assert ["id", "name"] == list(first.table(seed).columns)
    first._cache.save()
    (tmp_path / "seeds" / "raw.csv").write_text("id,label\n1,Ada\n")
    os.utime(tmp_path / "seeds" / "raw.csv", ns=(1, 1))

    assert ["id", "label"] == list(schemas(graph, kept=tmp_path / "columns.json").table(seed).columns)


def test_unbuilt_contract(graph: Graph) -> None:
    """A contract says what the next build makes, not what a table is that no known run has built."""
    model = {
        **graph.node("model.shop.staged"),
        "config": {"materialized": "table", "contract": CONTRACT},
        "columns": {"id": {"name": "id", "data_type": "int"}},
    }

    assert not schemas(graph, built=[]).table(model).complete


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, {"id": "BIGINT", "total": None}),
        ({"format": "parquet"}, {"id": "BIGINT", "total": None}),
        ({"location": "x/t.parquet"}, {"id": "BIGINT", "total": None}),
        ({"format": "csv"}, {"id": None, "total": None}),
        ({"location": "x/t.csv"}, {"id": None, "total": None}),
        ({"format": "json"}, {"id": None, "total": None}),
        ({"location": "x/t", "options": {"codec": "zstd"}}, {"id": "BIGINT", "total": None}),
        ({"format": "csv", "options": {"header": False}}, {}),
        ({"location": "{{ env_var('X') }}.dat"}, {}),
    ],
)
def test_external(graph: Graph, tmp_path: Path, config: dict[str, Any], expected: dict[str, str | None]) -> None:
    """A model in a file has the columns that reading the file gives: only Parquet keeps its types."""
    sql = "select 1::bigint as id, 2::decimal(18, 2) as total"
    model = of_sql(graph, tmp_path, sql, **{"materialized": "external", **config})

    known = schemas(graph)
    assert TableColumns(expected, complete=bool(expected)) == known.table(model)
    assert bool(expected) != bool(known.query(model).problem)


def test_partitions(graph: Graph, tmp_path: Path) -> None:
    """The columns by which a file is partitioned are the last ones when it is read, with types of their own."""
    config = {"materialized": "external", "options": {"partition_by": "id"}}
    model = of_sql(graph, tmp_path, "select 1::bigint as id, 2 as total", **config)

    assert TableColumns({"id": None, "total": None}, in_order=False) == schemas(graph).table(model)
