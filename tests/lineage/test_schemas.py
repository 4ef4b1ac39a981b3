"""Tests of the columns that are known without querying the warehouse."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pipeline.floe.dbt.manifest_graph import Graph, Node
from pipeline.floe.lineage.columns import TableColumns
from pipeline.floe.lineage.columns.cache import ColumnCache
from pipeline.floe.lineage.columns.schemas import Schemas

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


def schemas(graph: Graph, catalog: Mapping[str, Any] | None = None, kept: Path | None = None) -> Schemas:
    """Return the columns of the project's tables."""

    def types(_file: Path, _node: Node) -> dict[str, str]:
        return {"id": "INTEGER", "name": "TEXT"}

    return Schemas(graph, "duckdb", ColumnCache(kept), catalog or {}, types)


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
    known = schemas(graph, {"sources": {"source.shop.events": {"columns": columns}}})

    for unique_id in ("source.shop.events", "model.shop.open"):
        assert [("id", "BIGINT"), ("at", "DATE")] == list(known.table(graph.node(unique_id)).columns.items())
        assert known.table(graph.node(unique_id)).complete


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

    assert expected == schemas(graph, kept=tmp_path / "columns.json").table(graph.node("model.shop.staged"))

    changed = {**graph.node("model.shop.staged"), "checksum": {"checksum": "another"}}
    assert TableColumns({}, complete=False) == schemas(graph, kept=tmp_path / "columns.json").table(changed)


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
