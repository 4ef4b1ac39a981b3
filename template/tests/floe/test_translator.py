"""`meta.floe` in Dagster: owner, tags and freshness of an asset, and what a wrong entry does."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

import dagster as dg
import pytest

from .package import FloeTranslator, settings

SEED = {
    "unique_id": "seed.shop.raw", "name": "raw", "resource_type": "seed", "relation_name": "db.raw", "config": {},
}  # fmt: skip
SOURCE = SEED | {"unique_id": "source.shop.raw.raw", "resource_type": "source", "source_name": "raw", "meta": {}}


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
    manifest = {
        "metadata": {"adapter_type": "duckdb"},
        "nodes": {"model.shop.orders": model | node, "seed.shop.raw": SEED},
        "sources": {"source.shop.raw.raw": SOURCE},
        "groups": {"group.shop.marts": {"name": "marts", "owner": {"email": "marts@example.com"}}},
    }
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


def test_invalid_tag(caplog: pytest.LogCaptureFixture) -> None:
    """What Dagster would not take as a tag is changed with a warning; metadata has it as it was written."""
    asset = spec({"classification": "for eyes only"})

    assert asset.tags["floe/classification"] == "for-eyes-only"
    assert asset.metadata["floe/classification"] == "for eyes only"
    assert "is not a valid tag value" in caplog.text


def test_owner_metadata() -> None:
    """The owner of `meta.floe` is metadata, too."""
    assert spec({"owner": "team:sales"}).metadata["floe/owner"] == "team:sales"


def test_rest() -> None:
    """What dagster-dbt says of an asset stays: its kinds, group, description, metadata and what it reads."""
    asset = spec(
        config={"materialized": "table", "group": "marts", "meta": {"floe": {"owner": "team:sales"}}},
        fqn=["shop", "marts", "orders"],
        group="marts",
        description="Orders.",
        relation_name="db.main.orders",
        depends_on={"nodes": ["seed.shop.raw"]},
    )

    assert {"dbt", "duckdb"} <= asset.kinds
    assert asset.group_name == "marts"
    assert spec(group="marts", config={"group": "marts"}).owners == ["marts@example.com"]
    assert "Orders." in (asset.description or "")
    assert "dagster/table_name" in asset.metadata
    assert [dep.asset_key for dep in asset.deps] == [dg.AssetKey("raw")]


def test_source_of_seed() -> None:
    """An asset that reads a seed also as a source reads it once: Dagster refuses two of one table."""
    both = ["seed.shop.raw", "source.shop.raw.raw"]

    assert [dep.asset_key for dep in spec(depends_on={"nodes": both}).deps] == [dg.AssetKey("raw")]
    assert len(list(spec(depends_on={"nodes": both[1:]}).deps)) == 1


@pytest.mark.parametrize("tier", settings.sla_tiers)
def test_tiers(tier: str) -> None:
    """Each name of settings.toml is as good as its duration."""
    assert spec({"sla": tier}).freshness_policy == spec({"sla": settings.sla_tiers[tier]}).freshness_policy is not None


@pytest.mark.parametrize(("sla", "age"), [("30m", {"minutes": 30}), ("12h", {"hours": 12}), ("7d", {"days": 7})])
def test_units(sla: str, age: dict[str, int]) -> None:
    """A duration is one of minutes, hours or days."""
    assert spec({"sla": sla}).freshness_policy == dg.FreshnessPolicy.time_window(timedelta(**age))


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


def test_wrong_column(caplog: pytest.LogCaptureFixture) -> None:
    """A wrong classification of a column is a warning that names the column; what is right of it stays."""
    floe = {"classification": "pii", "sensitivity": 3, "pii-type": "email"}
    columns = {"email": {"name": "email", "description": "", "data_type": "text", "config": {"meta": {"floe": floe}}}}
    [column] = spec(columns=columns).metadata["dagster/column_schema"].columns

    assert column.tags == {"floe/classification": "pii"}
    assert "columns.email.meta.floe.sensitivity is 3; write a string" in caplog.text
    assert "did you mean 'pii_type'?" in caplog.text
