"""Tests that the cached values equal those that Dagster would compute, and do not change."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import dagster as dg
from dagster._core.execution.context.system import StepExecutionContext
from dagster_dbt import DbtCliResource
from pipeline.floe.dbt.caches import cache_dbt_version, cache_output_keys

ASSETS = 5


def test_outputs() -> None:
    """Dagster makes the set of a step's assets once more, not once for each asset, and it is the same."""
    found: list[Any] = []
    make = StepExecutionContext.get_output_asset_keys

    @dg.multi_asset(specs=[dg.AssetSpec(f"a{number}") for number in range(ASSETS)])
    def assets(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[Any]]:
        cache_output_keys(context)
        for number in range(ASSETS):
            yield dg.MaterializeResult(asset_key=f"a{number}")
        found.append(context.get_step_execution_context().get_output_asset_keys())

    with (
        mock.patch.object(StepExecutionContext, "get_output_asset_keys", autospec=True, side_effect=make) as asked,
        dg.DagsterInstance.ephemeral() as instance,
    ):
        assert dg.materialize([assets], instance=instance).success

    assert 2 == asked.call_count  # before our code runs, and since
    assert [{dg.AssetKey(f"a{number}") for number in range(ASSETS)}] == found


def test_version(project: Path) -> None:
    """The version is where dagster-dbt keeps it, and what dbt itself would have said."""
    told, asked = (DbtCliResource(project_dir=str(project / "dbt")) for _ in range(2))
    cache_dbt_version(told)

    assert asked._cli_version == told.__dict__["_cli_version"] == told._cli_version


def test_no_step() -> None:
    """A context without a step, as tests make them, is left alone."""
    cache_output_keys(dg.build_asset_context())
    cache_output_keys(SimpleNamespace())
