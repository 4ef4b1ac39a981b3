"""Tests of facets that do not occur in recorded builds."""

from __future__ import annotations

import json
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openlineage.client.serde import Serde
from pipeline.floe.dbt.manifest_graph import Graph
from pipeline.floe.dbt.node_events import EventTracker, NodeFinished, Outcome
from pipeline.floe.lineage import checks, datasets, run_facets
from pipeline.floe.lineage.custom_facets import ColumnClassification, ColumnClassificationDatasetFacet
from pipeline.floe.lineage.jobs import JobFacets, Repository

from tests.lineage.replay import owners, warehouse
from tools.rendering import REPOSITORY
from tools.spec import MISSING, SPEC, registry

AT = datetime(2026, 11, 23, 4, tzinfo=UTC)
INVOCATION = "0192f0b5-0a2f-7f4d-9a5e-000000000001"
TABLE = {"unique_id": "model.shop.orders", "resource_type": "model", "name": "orders", "config": {}}


def ended(status: str = "success", unique_id: str = "model.shop.orders", **more: Any) -> NodeFinished:
    """Return the end of a node."""
    kind = unique_id.partition(".")[0]
    outcome = more.pop("outcome", Outcome.SUCCESS)
    return NodeFinished(
        at=AT,
        unique_id=unique_id,
        resource_type=kind,
        invocation_id=INVOCATION,
        outcome=outcome,
        status=status,
        **more,
    )


@pytest.mark.parametrize(
    ("target", "materialized", "response", "expected"),
    [
        ("postgres", "table", {"rows_affected": 120.0}, 120),
        ("postgres", "view", {"rows_affected": -1.0}, None),
        ("postgres", "table", {"rows_affected": -1}, None),
        ("postgres", "table", {"rows_affected": 0}, 0),
        ("duckdb", "table", {"_message": "OK"}, None),
        ("snowflake", "table", {"rows_affected": 1, "code": "SUCCESS"}, None),
        ("snowflake", "incremental", {"rows_affected": 42, "code": "SUCCESS"}, 42),
    ],
)
def test_rows(target: str, materialized: str, response: dict[str, Any], expected: int | None) -> None:
    """Rows are told where the engine counts them, not where it says -1, nothing, or the 1 of Snowflake's answer."""
    node = {**TABLE, "config": {"materialized": materialized}}

    assert expected == datasets._rows(node, ended(response=response), warehouse(target))


def test_bytes_read() -> None:
    """What BigQuery billed is the statistics of the one table that was read."""
    life = ended(response={"bytes_processed": 2048})

    found = datasets._bytes_read(life, alone=True)

    assert 2048 == json.loads(Serde.to_json(found["inputStatistics"]))["size"]
    assert {} == datasets._bytes_read(life, alone=False)


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        ({"query_id": "01b2"}, "01b2"),
        ({"query_id": "N/A"}, None),
        ({"job_id": "j1", "project_id": "p", "location": "EU"}, "p:EU.j1"),
        ({}, None),
    ],
)
def test_query_id(response: dict[str, Any], expected: str | None) -> None:
    """A query's id is told as its engine finds it again."""
    assert expected == run_facets._query_id(ended(response=response))


@pytest.mark.parametrize("config", [{"where": "id > 1"}, {"limit": 10}, {"fail_calc": "sum(n)"}])
def test_narrowed(config: dict[str, Any]) -> None:
    """A not_null test that has not looked at all rows has not counted the nulls."""
    node = {
        "unique_id": "test.shop.n",
        "resource_type": "test",
        "name": "n",
        "config": config,
        "column_name": "id",
        "test_metadata": {"name": "not_null", "kwargs": {}},
    }
    found = checks.input_facets(node, ended("fail", "test.shop.n", failures=3, outcome=Outcome.FAIL), TABLE)

    assert ["dataQualityAssertions"] == list(found)


def test_freshness() -> None:
    """A source's freshness is an assertion on the source, which is read and not written."""
    source = {**TABLE, "unique_id": "source.shop.lake.paid", "resource_type": "source"}
    facets = checks.input_facets(source, ended("warn", "source.shop.lake.paid", outcome=Outcome.WARN), source)
    (assertion,) = json.loads(Serde.to_json(facets["dataQualityAssertions"]))["assertions"]

    assert ("freshness", False, "warn") == (assertion["assertion"], assertion["success"], assertion["severity"])
    assert [source] == list(Graph({"metadata": {}}, Path()).tables_upstream(source))


def test_seed_in_snowflake_is_named_as_snowflake_has_it() -> None:
    """Names that dbt does not quote are told as Snowflake folds them."""
    graph = Graph({"metadata": {}}, Path())
    tables = datasets.DatasetBuilder(
        graph, warehouse("snowflake"), {"account": "o-a"}, schemas=None, owners=owners, folder=Path()
    )
    node = {**TABLE, "database": "shop", "schema": "public", "alias": "orders"}

    assert "SHOP.PUBLIC.ORDERS" == tables.name({**node, "relation_name": "shop.public.orders"}).name
    assert "SHOP.PUBLIC.orders" == tables.name({**node, "relation_name": 'shop.public."orders"'}).name


@pytest.mark.parametrize(
    "remote", ["git@git.example.com:acme/shop.git", "https://bot:token@git.example.com/acme/shop.git"]
)
def test_git(remote: str, tmp_path: Path) -> None:
    """A job says where its file is in git, without the token of the remote."""
    project = tmp_path / "repository" / "dbt"
    (project / "models").mkdir(parents=True)
    (project / "models" / "orders.sql").write_text("select 1")
    git = ("git", "-c", "user.name=t", "-c", "user.email=t@example.com")
    for command in (
        ["init", "-q", "-b", "main"],
        ["add", "."],
        ["commit", "-qm", "x"],
        ["remote", "add", "origin", remote],
    ):
        subprocess.run([*git, *command], cwd=project.parent, check=True)
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=project, check=True, capture_output=True, text=True)
    commit = head.stdout.strip()
    graph = Graph({"metadata": {"project_name": "shop"}}, tmp_path)
    node = {**TABLE, "package_name": "shop", "original_file_path": "models/orders.sql"}

    location = JobFacets(graph, "duckdb", project, Repository.around(project), owners).facets(node)[
        "sourceCodeLocation"
    ]

    assert {
        "type": "git",
        "repoUrl": "https://git.example.com/acme/shop.git",
        "url": f"https://git.example.com/acme/shop/blob/{commit}/dbt/models/orders.sql",
        "path": "dbt/models/orders.sql",
        "version": commit,
        "branch": "main",
    } == {key: value for key, value in json.loads(Serde.to_json(location)).items() if not key.startswith("_")}


def test_no_git(tmp_path: Path) -> None:
    """Without git nothing is said of where the file is."""
    # The folder for tests may itself lie in a repository; the root of all folders does not.
    assert Repository.around(Path(tmp_path.anchor)) is None


@pytest.mark.skipif(not SPEC.is_dir(), reason=MISSING)
def test_classification() -> None:
    """The classification facet is valid by the schema that the project ships."""
    name = "ColumnClassificationDatasetFacet.json"
    shipped = REPOSITORY / "template" / "src" / "{{ package_name }}" / "floe" / "lineage" / name
    schema = json.loads(shipped.read_bytes())
    facet = ColumnClassificationDatasetFacet(
        classifications={"email": ColumnClassification(classification="pii", pii_type="email")}
    )
    told = {"floe_columnClassification": json.loads(Serde.to_json(facet))}

    assert [] == list(Draft202012Validator(schema, registry=registry()).iter_errors(told))
    told["floe_columnClassification"]["classifications"]["email"] = {}
    assert [] != list(Draft202012Validator(schema, registry=registry()).iter_errors(told))


def test_no_op() -> None:
    """A node for which there is nothing to do ends well; an exposure is no node that runs."""
    info = {"invocation_id": INVOCATION, "ts": "2026-11-23T04:00:00Z"}
    lives = EventTracker()
    found: list[Any] = []
    for name, kind, status in (
        ("LogStartLine", "model", "started"),
        ("LogNodeNoOpResult", "model", "no-op"),
        ("LogNodeNoOpResult", "exposure", "no-op"),
    ):
        node = {"unique_id": f"{kind}.shop.x", "resource_type": kind, "node_status": status}
        found += lives.feed({"info": info | {"name": name}, "data": {"node_info": node}})

    assert ["CommandStarted", "NodeStarted", "NodeFinished"] == [type(life).__name__ for life in found]


def test_blockers() -> None:
    """A node is skipped for a failed table above it, or a failed test of one; a unit test, for those of its model."""
    graph = Graph(
        {
            "metadata": {},
            "nodes": {
                "model.shop.a": {**TABLE, "unique_id": "model.shop.a"},
                "model.shop.other": {**TABLE, "unique_id": "model.shop.other"},
                "test.shop.t": {"resource_type": "test", "name": "t", "depends_on": {"nodes": ["model.shop.a"]}},
                "model.shop.b": {**TABLE, "unique_id": "model.shop.b", "depends_on": {"nodes": ["model.shop.a"]}},
            },
        },
        Path(),
    )
    node = {**TABLE, "depends_on": {"nodes": ["model.shop.a"]}}
    bad = {"test.shop.t": "fail", "model.shop.other": "fail", "model.shop.a": "skipped"}

    assert ["test.shop.t", "model.shop.a"] == graph.blockers(node, bad)
    unit_test = {"unique_id": "u", "resource_type": "unit_test", "depends_on": {"nodes": ["model.shop.b"]}}
    assert ["test.shop.t", "model.shop.a"] == graph.blockers(unit_test, bad)
