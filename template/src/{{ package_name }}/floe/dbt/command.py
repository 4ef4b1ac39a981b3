"""The start of a dbt command through dagster-dbt, with the step's selection where the command takes one.

Given a context, dagster-dbt adds `--select` to every command. Some take none, and `dbt source freshness` would look
for sources among models. Those are started without the context, as dagster-dbt's documentation has it, and get it
back afterwards, so that what they build is still an output of the asset.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
from dagster_dbt import DbtCliInvocation, DbtCliResource
from dagster_dbt.asset_utils import get_manifest_and_translator_from_dbt_assets

from ..step import Context

# dbt's commands by whether they build what Dagster has selected.
SELECTING = {"build", "clone", "compile", "list", "ls", "run", "seed", "show", "snapshot", "test"}
UNSELECTING = {"clean", "debug", "deps", "docs", "init", "parse", "retry", "run-operation", "source"}


def start(
    dbt: DbtCliResource, args: Sequence[str], context: Context, kwargs: Mapping[str, Any], *, before: Path | None
) -> DbtCliInvocation:
    """Start dbt.

    Args:
        dbt: The resource.
        args: dbt's own.
        context: Context of the asset or op that runs it.
        kwargs: Further arguments of `DbtCliResource.cli`.
        before: Target folder of the step's last command, which `dbt retry` repeats; nothing if there was none.
    """
    command = dbt_command(args)
    if before and command == "retry" and not any(arg.startswith("--state") for arg in args):
        kwargs = {"target_path": before, **kwargs}
    if not context.has_assets_def:  # an op
        return dbt.cli(args, context=context, **kwargs)
    if not _is_dbt(context.assets_def):
        return dbt.cli(args, **kwargs)
    if command not in UNSELECTING:
        return dbt.cli(args, context=context, **kwargs)
    manifest, translator, project = get_manifest_and_translator_from_dbt_assets([context.assets_def])
    invocation = dbt.cli(args, **{"manifest": manifest, "dagster_dbt_translator": translator, **kwargs})
    invocation.context, invocation.project = context, project
    return invocation


def dbt_command(args: Sequence[str]) -> str:
    """Return the command among dbt's arguments, without its subcommand; global options may stand before it."""
    return next((arg for arg in args if arg in SELECTING | UNSELECTING), "")


def _is_dbt(assets: dg.AssetsDefinition) -> bool:
    """Say whether `@dbt_assets` has made the assets: only those have a selection of dbt's, and a manifest."""
    return any("dagster_dbt/manifest" in metadata for metadata in (assets.metadata_by_key or {}).values())
