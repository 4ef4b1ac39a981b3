"""Tests of dataset names: they equal those of OpenLineage's naming classes, and match the names of other tools."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from openlineage.client.naming import dataset as naming

from tests.lineage.replay import CONNECTIONS, warehouse

TABLE = {"database": "shop", "schema": "public", "identifier": "orders"}
REDSHIFT = "shop.c1x2.eu-west-1.redshift.amazonaws.com"
SERVERLESS = "etl.123456789012.eu-west-1.redshift-serverless.amazonaws.com"
# Target, connection, and the class of the specification that names the same table.
STANDARD: list[tuple[str, dict[str, Any], naming.DatasetNaming]] = [
    ("postgres", {"host": "db", "port": 5433}, naming.Postgres("db", "5433", *TABLE.values())),
    ("postgres", {"host": "db", "port": None}, naming.Postgres("db", "5432", *TABLE.values())),
    ("redshift", {"host": REDSHIFT, "port": 5439}, naming.Redshift("shop", "eu-west-1", "5439", *TABLE.values())),
    ("redshift", {"host": SERVERLESS}, naming.Redshift("etl", "eu-west-1", "5439", *TABLE.values())),
    ("snowflake", {"account": "org-account"}, naming.Snowflake("org", "account", *TABLE.values())),
    ("bigquery", {}, naming.BigQuery(*TABLE.values())),
]


@pytest.mark.parametrize(("target", "connection", "expected"), STANDARD, ids=lambda value: str(value)[:40])
def test_standard(target: str, connection: dict[str, Any], expected: naming.DatasetNaming) -> None:
    """Where the specification names an engine's tables, so do we."""
    engine = warehouse(target)

    assert (expected.get_namespace(), expected.get_name()) == (
        engine.namespace(connection),
        engine.dataset_name(TABLE),
    )


@pytest.mark.parametrize(
    ("target", "connection", "expected"),
    [
        ("databricks", {"host": "https://adb-1.azuredatabricks.net/"}, "databricks://adb-1.azuredatabricks.net"),
        ("spark", {"host": "thrift", "port": 10001}, "spark://thrift:10001"),
        ("duckdb", {"path": "/data/w.duckdb"}, "duckdb:///data/w.duckdb"),
        ("duckdb", {"path": "md:shop?motherduck_token=secret"}, "duckdb://md:shop"),
        # As dagster-dbt hands them on: every path made absolute.
        ("duckdb", {"path": "/srv/dbt/md:shop?motherduck_token=se/cret"}, "duckdb://md:shop"),
        ("duckdb", {"path": "/srv/dbt/../data/w.duckdb"}, "duckdb:///srv/data/w.duckdb"),
        ("snowflake", {"account": "xy12345"}, "snowflake://xy12345.us-west-1.aws"),
        ("snowflake", {"account": "xy12345.eu-west-1"}, "snowflake://xy12345.eu-west-1.aws"),
        ("snowflake", {"account": "xy12345.east-us-2.azure"}, "snowflake://xy12345.east-us-2.azure"),
        ("redshift", {"host": "localhost", "port": 5440}, "redshift://localhost:5440"),
    ],
)
def test_others(target: str, connection: dict[str, Any], expected: str) -> None:
    """Where it does not, the names are those of OpenLineage's dbt and Spark integrations; no token is in one."""
    assert expected == warehouse(target).namespace(connection)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("bigquery", []),
        ("databricks", [("unitycatalog://adb-1.2.azuredatabricks.net", "shop.public.orders")]),
        ("duckdb", []),
        ("postgres", []),
        ("redshift", [(f"redshift://{REDSHIFT}:5439", "shop.public.orders")]),
        ("snowflake", []),
        ("spark", [("hive://thrift.example.com:10000", "public.orders")]),
    ],
)
def test_second_identity(target: str, expected: list[tuple[str, str]]) -> None:
    """What other tools call the same table stands beside as a symlink."""
    engine, connection = warehouse(target), CONNECTIONS[target][0]

    assert expected == list(engine.alternative_names(connection, engine.dataset_name(TABLE)))


@pytest.mark.parametrize(
    ("database", "expected"),
    [
        ("PROD", ("duckdb:///srv/data/prod.duckdb", "prod")),
        ("renamed", ("duckdb:///data/other.duckdb", "other")),
        ("cloud", ("duckdb://md:shop", "shop")),
        ("pg", None),
        ("w", None),
    ],
)
def test_attached(database: str, expected: tuple[str, str] | None) -> None:
    """A file that is attached has the name that it has in runs of its own; others stay the connection's."""
    attach = [
        SimpleNamespace(path="../data/prod.duckdb", alias=None, type=None),
        SimpleNamespace(path="/data/other.duckdb", alias="renamed", type="duckdb"),
        SimpleNamespace(path="md:shop?motherduck_token=secret", alias="cloud", type=None),
        SimpleNamespace(path="dbname=shop password=secret", alias="pg", type="postgres"),
    ]

    assert expected == warehouse("duckdb").attached(
        {"path": "/data/w.duckdb", "attach": attach}, database, Path("/srv/dbt")
    )
