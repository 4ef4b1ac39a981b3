"""Tests of `meta.floe` in Dagster: merged entries, entries that stay, and the effect of a wrong entry."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import dagster as dg
import pytest
from dagster._core.utils import is_valid_email
from dagster_dbt import DagsterDbtTranslator
from pipeline.floe.assets.translator import FloeTranslator
from pipeline.floe.settings import settings


def manifest(**node: Any) -> dict[str, Any]:
    """Return a manifest with one model, `orders`, of these properties."""
    orders = {
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
        "config": {"materialized": "table", "meta": {}},
    }
    return {"metadata": {"adapter_type": "duckdb"}, "nodes": {"model.shop.orders": orders | node}, "sources": {}}


def spec(**node: Any) -> dg.AssetSpec:
    """Return the asset spec of such a model."""
    made: dg.AssetSpec = FloeTranslator().get_asset_spec(manifest(**node), "model.shop.orders", None)
    return made


def floe(**entries: Any) -> dict[str, Any]:
    """Return a model's config with `meta.floe`."""
    return {"materialized": "table", "meta": {"floe": entries}}


class TestMerged:
    """What `meta.floe` says shows in Dagster."""

    def test_owner(self) -> None:
        """The owner is the asset's."""
        assert ["team:sales"] == spec(config=floe(owner="team:sales")).owners

    def test_case(self) -> None:
        """A classification is the same in any case; an owner's address is as written."""
        made = spec(config=floe(classification=" Restricted", owner="Ada@example.com"))

        assert ("restricted", ["Ada@example.com"]) == (made.tags["floe/classification"], made.owners)

    def test_default_owner(self) -> None:
        """An asset that names no owner has the project's."""
        assert ["team:data"] == spec().owners

    def test_dagster_owner(self) -> None:
        """An owner given in Dagster's own way stays."""
        assert ["team:x"] == spec(meta={"dagster": {"owners": ["team:x"]}}).owners

    def test_tags_and_metadata(self) -> None:
        """Classification and service level are tags, and metadata as they were typed."""
        made = spec(config=floe(classification="restricted", sla="24h"), tags=["nightly"])

        assert made.tags.items() >= {"floe/classification": "restricted", "floe/sla": "24h", "nightly": ""}.items()
        assert made.metadata["floe/classification"] == "restricted"

    @pytest.mark.parametrize(
        ("sla", "window"),
        [
            ("30m", timedelta(minutes=30)),
            ("24h", timedelta(hours=24)),
            ("7d", timedelta(days=7)),
            ("tier1", timedelta(hours=6)),
        ],
    )
    def test_freshness(self, sla: str, window: timedelta) -> None:
        """A service level, a duration or a tier of settings.toml, is a freshness policy."""
        policy = spec(config=floe(sla=sla)).freshness_policy

        assert dg.FreshnessPolicy.time_window(window) == policy

    def test_columns(self) -> None:
        """A column's classification is its tags; its description and type stay."""
        email: dict[str, Any] = {"name": "email", "description": "Mail.", "data_type": "text", "tags": ["x"]}
        email["config"] = {"meta": {"floe": {"classification": "pii", "pii_type": "email", "sensitivity": "high"}}}

        (column,) = spec(columns={"email": email}).metadata["dagster/column_schema"].columns

        assert ("email", "Mail.", "text") == (column.name, column.description, column.type)
        assert column.tags == {
            "x": "",
            "floe/classification": "pii",
            "floe/pii_type": "email",
            "floe/sensitivity": "high",
        }

    def test_old_place(self) -> None:
        """`meta` beside `config` is read where `config.meta` has no `floe`, and loses where it has."""
        old = {"floe": {"owner": "team:old"}}

        assert ["team:old"] == spec(meta=old).owners
        assert ["team:new"] == spec(meta=old, config=floe(owner="team:new")).owners

    def test_nothing_lost(self) -> None:
        """dagster-dbt's own metadata, kinds and key stay."""
        made = spec(config=floe(owner="team:sales"))
        stock = DagsterDbtTranslator().get_asset_spec(
            manifest(config=floe(owner="team:sales")), "model.shop.orders", None
        )

        assert (stock.key, stock.kinds, stock.description) == (made.key, made.kinds, made.description)
        assert stock.metadata.keys() <= made.metadata.keys()
        assert stock.tags.items() <= made.tags.items()


class TestWarned:
    """A wrong entry is a warning that names model, file and fix, and the asset loads."""

    @pytest.mark.parametrize(
        ("config", "expected"),
        [
            (floe(ownr="team:x"), "meta.floe.ownr is unknown; did you mean 'owner'?"),
            (floe(colour="red"), "meta.floe.colour is unknown; use one of owner, classification, sla"),
            (floe(owner="data platform"), "write 'team:data-platform'"),
            (floe(owner="!!!"), "write 'team:unknown'"),
            (floe(owner="jürgen@firma.de"), "write 'team:jürgen-firma.de'"),
            (floe(owner="x@y.z."), "write 'team:x-y.z.'"),
            (floe(owner="me@shop.technology"), "is neither an e-mail address that Dagster accepts nor team:name"),
            (floe(classification="  "), "meta.floe.classification is '  '; write a string"),
            (floe(owner=7), "meta.floe.owner is 7; write a string"),
            (floe(owner=None), "meta.floe.owner is None; write a string"),
            (floe(sla="soon"), "meta.floe.sla 'soon' is not one of: a duration such as 24h, tier1, tier2, tier3"),
            (floe(sla="0h"), "meta.floe.sla '0h' is not one of"),
            (floe(classification="top secret!"), "it appears as 'top-secret-'"),
            (
                {"meta": {"floe": "team:x"}},
                "meta.floe is 'team:x'; write it as a mapping of owner, classification, sla",
            ),
            ({"meta": {"floe": ["x"]}}, "meta.floe is ['x']; write it as a mapping"),
            ({"meta": {"flo": {"owner": "team:x"}}}, "meta.flo is ignored; did you mean 'meta.floe'?"),
            ({"meta": {"Floe": {"owner": "team:x"}}}, "meta.Floe is ignored; did you mean 'meta.floe'?"),
        ],
    )
    def test_entry(self, caplog: pytest.LogCaptureFixture, config: dict[str, Any], expected: str) -> None:
        """One warning says what is wrong, where, and what to write."""
        made = spec(config=config)

        (message,) = (record.getMessage() for record in caplog.records)
        assert message.startswith("model.shop.orders (models/orders.sql): ")
        assert expected in message
        assert made.owners

    def test_file(self, caplog: pytest.LogCaptureFixture) -> None:
        """The warning names the properties file too, which is where `meta` usually stands."""
        spec(config=floe(clasification="pii"), patch_path="shop://models/marts/marts.yml")

        (message,) = (record.getMessage() for record in caplog.records)
        assert message.startswith("model.shop.orders (models/marts/marts.yml or models/orders.sql): ")

    def test_column(self, caplog: pytest.LogCaptureFixture) -> None:
        """A column's wrong entry names the column."""
        spec(columns={"email": {"name": "email", "config": {"meta": {"floe": {"pii_typ": "email"}}}}})

        assert "columns.email.meta.floe.pii_typ is unknown; did you mean 'pii_type'?" in caplog.text

    def test_misspelt_on_column(self, caplog: pytest.LogCaptureFixture) -> None:
        """A column whose `meta` has a misspelt `floe` is named; another key that is a word of its own is left alone."""
        columns = {name: {"name": name, "meta": {name: {"sensitivity": "high"}}} for name in ("floes", "flow")}
        spec(columns=columns)

        (message,) = (record.getMessage() for record in caplog.records)
        assert message.endswith("columns.floes.meta.floes is ignored; did you mean 'meta.floe'?")

    def test_default_owner(self, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
        """A default owner that Dagster would refuse is a single warning, and no asset fails to load."""
        wrong = replace(settings, owner="jürgen@firma.de")
        monkeypatch.setattr("pipeline.floe.assets.translator.settings", wrong)
        made = [spec(), spec(config={"materialized": "view"})]

        assert [["team:jürgen-firma.de"]] * 2 == [each.owners for each in made]
        dg.Definitions(assets=made[:1]).resolve_asset_graph()
        (message,) = (record.getMessage() for record in caplog.records)
        assert message.startswith("floe/settings.toml: owner 'jürgen@firma.de' is neither")

    @pytest.mark.parametrize(
        "owner",
        [
            "a@b.de",
            "a.b+c@d-e.co.uk",
            "ä@b.de",
            "a@b",
            "a@b.c",
            "a@b.technology",
            ".a@b.de",
            "a@b..de",
            "a@-.de",
            "a|@b.de",
        ],
    )
    def test_like_dagster(self, owner: str) -> None:
        """Whatever becomes of an owner, Dagster accepts it; an address that it accepts stays as it is."""
        made = spec(config=floe(owner=owner))
        dg.Definitions(assets=[made]).resolve_asset_graph()

        assert made.owners == [owner] if is_valid_email(owner) else made.owners[0].startswith("team:")

    def test_loads(self) -> None:
        """Dagster takes an asset with every entry wrong."""
        made = spec(config=floe(owner="data platform", sla="soon", classification="a b", x=1))

        assert dg.Definitions(assets=[made]).resolve_asset_graph().get(made.key).owners == ["team:data-platform"]


def test_once() -> None:
    """A node's spec is made once: the same object serves all that depend on it."""
    translator, made = FloeTranslator(), manifest()

    first, second = (translator.get_asset_spec(made, "model.shop.orders", None) for _ in range(2))

    assert first is second
