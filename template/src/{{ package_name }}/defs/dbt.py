"""The dbt project's models, seeds and snapshots as assets, and its tests as asset checks."""

from collections.abc import Iterator
from typing import Any

import dagster as dg
from dagster_dbt import DbtCliResource, dbt_assets

from ..floe.run import FloeTranslator, load_manifest, observe
from ..project import dbt_project


@dbt_assets(
    manifest=load_manifest(dbt_project),
    project=dbt_project,
    pool="warehouse",  # limits how many runs use the warehouse at once, where the instance has a limit
    dagster_dbt_translator=FloeTranslator(),
)
def dbt_models(context: dg.AssetExecutionContext, dbt: DbtCliResource) -> Iterator[Any]:
    """Build the selected assets with dbt, emitting lineage and traces as it runs."""
    yield from observe(dbt, ["build"], context)
