"""The start of a dbt command through dagster-dbt, with the step's selection if the command takes one.

If it gets a context, dagster-dbt adds `--select` to every command. Some commands do not accept it, and `dbt source
freshness` would look for sources among models. Those start without the context, as dagster-dbt's documentation
recommends, and get it back afterwards, so that what they build is still an output of the asset.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
from dagster_dbt import DbtCliInvocation, DbtCliResource
from dagster_dbt.asset_utils import get_manifest_and_translator_from_dbt_assets

from ..step import Context, has_empty_selection

# dbt's commands that take Dagster's selection, and those that do not.
SELECTING = {"build", "clone", "compile", "list", "ls", "run", "seed", "show", "snapshot", "test"}
UNSELECTING = {"clean", "debug", "deps", "docs", "init", "parse", "retry", "run-operation", "source"}

# How long dagster-dbt waits for dbt after an interruption. Kubernetes kills a pod after 30 seconds, in which the end of
# the run has to be sent as well. The default of 25 seconds leaves too little time.
TERMINATION_VARIABLE = "DAGSTER_DBT_TERMINATION_TIMEOUT_SECONDS"
TERMINATION_SECONDS = 15.0

NOTHING_SELECTED = (
    "No asset matches the selection of this run, so Dagster would build all assets. Check the selection with "
    "`dg list defs --assets '…'`. To build all assets, run `dg launch --assets '*'`."
)


def start(
    dbt: DbtCliResource, args: Sequence[str], context: Context, kwargs: Mapping[str, Any], *, before: Path | None
) -> DbtCliInvocation:
    """Start dbt.

    Args:
        dbt: The resource.
        args: Arguments of dbt.
        context: Context of the asset or op that runs dbt.
        kwargs: Further arguments of `DbtCliResource.cli`.
        before: Target folder of the step's previous command, which `dbt retry` repeats, or None.

    Raises:
        Failure: No asset matches the run's selection.
    """
    if has_empty_selection(context):
        raise dg.Failure(NOTHING_SELECTED, allow_retries=False)
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


def has_nodes(context: Context, unique_ids: Collection[str]) -> bool:
    """Return whether the manifest of the context's assets has nodes; for others than dbt's assets, assume it."""
    if not context.has_assets_def or not _is_dbt(context.assets_def):
        return True
    manifest = get_manifest_and_translator_from_dbt_assets([context.assets_def])[0]
    return all(
        unique_id in manifest["nodes"] or unique_id in manifest.get("unit_tests", {}) for unique_id in unique_ids
    )


def limit_termination(invocation: DbtCliInvocation) -> None:
    """Leave time to report the end of a run that is interrupted, unless the owner has chosen a limit."""
    if TERMINATION_VARIABLE not in os.environ:
        invocation.termination_timeout_seconds = TERMINATION_SECONDS


def dbt_command(args: Sequence[str]) -> str:
    """Return the command in dbt's arguments, without its subcommand; global options may precede it."""
    return next((arg for arg in args if arg in SELECTING | UNSELECTING), "")


def _is_dbt(assets: dg.AssetsDefinition) -> bool:
    """Return whether `@dbt_assets` defined the assets: only those have a dbt selection and a manifest."""
    return any("dagster_dbt/manifest" in metadata for metadata in (assets.metadata_by_key or {}).values())
