"""`meta.floe` in Dagster: owner, tags and freshness of an asset, and what a wrong entry does."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

import dagster as dg
import pytest

from .package import FloeTranslator, settings


def spec(floe: Any = None, **node: Any) -> dg.AssetSpec:
    """Return the asset of a dbt model with this `meta.floe` and these properties."""
    model = {
        "unique_id": "model.shop.orders",
        "name": "orders",
        "alias": "orders",
        "resource_type": "model",
        "original_file_path": "models/orders.sql",
        "database": "db",
        "schema": "main",
        "fqn": ["shop", "orders"],
        "depends_on": {"nodes": []},
        "tags": [],
        "meta": {},
        "columns": {},
        "description": "",
        "raw_code": "select 1",
        "config": {"materialized": "table", "meta": {} if floe is None else {"floe": floe}},
    }
    manifest = {"metadata": {"adapter_type": "duckdb"}, "nodes": {"model.shop.orders": model | node}, "sources": {}}
    return FloeTranslator().get_asset_spec(manifest, "model.shop.orders", None)


def test_owner() -> None:
    """The owner is the asset's; without one it is the project's."""
    assert spec({"owner": "team:sales"}).owners == ["team:sales"]
    assert spec().owners == [settings.owner]


def test_dagster_owner() -> None:
    """An owner given in Dagster's own way stays."""
    assert spec(meta={"dagster": {"owners": ["team:x"]}}).owners == ["team:x"]


def test_tags() -> None:
    """Classification and service level are tags beside dbt's own, and metadata."""
    asset = spec({"classification": "restricted", "sla": "24h"}, tags=["nightly"])

    assert asset.tags.items() >= {"floe/classification": "restricted", "floe/sla": "24h", "nightly": ""}.items()
    assert asset.metadata["floe/classification"] == "restricted"


def test_freshness() -> None:
    """A service level is a freshness policy: a dbt project says how old an asset may be."""
    assert spec({"sla": "24h"}).freshness_policy == dg.FreshnessPolicy.time_window(timedelta(hours=24))
    assert spec().freshness_policy is None


def test_columns() -> None:
    """A column's classification is a tag of the column."""
    floe = {"classification": "pii", "pii_type": "email"}
    columns = {"email": {"name": "email", "description": "", "data_type": "text", "config": {"meta": {"floe": floe}}}}
    [column] = spec(columns=columns).metadata["dagster/column_schema"].columns

    assert column.tags == {"floe/classification": "pii", "floe/pii_type": "email"}


@pytest.mark.parametrize(
    ("floe", "words"),
    [
        ({"ownr": "team:sales"}, "did you mean 'owner'?"),
        ({"owner": "data platform"}, "write 'team:data-platform'"),
        ({"sla": "soon"}, "a duration such as 24h"),
        ("confidential", "write it as a mapping"),
    ],
)
def test_wrong_entry(floe: Any, words: str, caplog: pytest.LogCaptureFixture) -> None:
    """A wrong entry is a warning that names the model and its file, never an error."""
    with caplog.at_level(logging.WARNING):
        assert spec(floe).key == dg.AssetKey("orders")

    assert words in caplog.text
    assert "model.shop.orders (models/orders.sql)" in caplog.text
