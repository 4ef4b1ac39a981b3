"""The setup of lineage for a dbt command, from what Dagster and dagster-dbt know of the step.

The rim of the pure modules: here the environment, git, the project's files and dbt's adapter are read.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import dagster as dg
from dagster_dbt import DbtCliInvocation

from ..assets.meta import Owners, read_node_meta, resolve_owners
from ..dbt.catalog import CatalogError, catalog_file, read_catalog
from ..dbt.manifest_graph import ASSETS, Node
from ..faults import Losses
from ..settings import Settings
from ..step import RANGE_TAGS, Step
from ..watcher import DbtCommand, command_line
from .columns.cache import Kept
from .columns.schemas import Schemas, SeedTypes
from .custom_facets import ColumnClassificationDatasetFacet
from .datasets import Datasets
from .events import Lineage
from .jobs import Jobs, Repository
from .parents import Command, DagsterRun, JobRun, outer_run

logger = logging.getLogger(__name__)

# Tags of a Dagster run that say why it runs, and its schedule's tick.
RUN_TAGS = (
    "dagster/partition",
    *RANGE_TAGS,
    "dagster/schedule_name",
    "dagster/sensor_name",
    "dagster/backfill",
)
SCHEDULED = ".dagster/scheduled_execution_time"


def lineage_of(step: Step, command: DbtCommand, settings: Settings, losses: Losses) -> tuple[Lineage, Kept]:
    """Return what turns the command's lives into events, and the columns that are to be saved at its end."""
    if settings.facet_schema:
        ColumnClassificationDatasetFacet.schema_url = settings.facet_schema
    kept = Kept(settings.state_dir / "columns.json")
    project_dir = command.invocation.project_dir
    owners = _owners(command, settings.owner)
    lineage = Lineage(
        dagster_run_of(step, settings.namespace),
        _command(command.invocation),
        command.graph,
        cache(lambda: _datasets(command, kept, owners)),
        cache(
            lambda: Jobs(
                command.graph(),
                command.warehouse()[0].dialect,
                project_dir,
                Repository.around(project_dir.resolve()),
                owners,
            )
        ),
        losses,
    )
    return lineage, kept


def lineage_of_run(step: Step, settings: Settings, losses: Losses) -> Lineage:
    """Return what makes the events of the Dagster run where dbt was never started: there are no others to make."""

    def unknown() -> Any:
        raise LookupError("dbt was not started")

    run = dagster_run_of(step, settings.namespace)
    return Lineage(run, Command(project_name=""), unknown, unknown, unknown, losses)


def dagster_run_of(step: Step, namespace: str) -> DagsterRun:
    """Return what OpenLineage is to know of the Dagster run."""
    outer = outer_run(os.environ)
    return DagsterRun(
        run=JobRun(namespace, step.display_name, step.run_id),
        parent=outer[0] if outer else None,
        root=outer[1] if outer else None,
        nominal=_nominal(step),
        tags={name: step.tags[name] for name in RUN_TAGS if name in step.tags},
        version=dg.__version__,
    )


def _nominal(step: Step) -> tuple[str, str | None] | None:
    if step.window:
        start, end = step.window
        return start.isoformat(), end.isoformat()
    if tick := step.tags.get(SCHEDULED):
        return tick, None
    return None


def _command(invocation: DbtCliInvocation) -> Command:
    config = invocation.adapter.config if invocation.adapter else None
    # A command without Dagster's selection may have been given no manifest.
    manifest_name = invocation.manifest.get("metadata", {}).get("project_name")
    return Command(
        project_name=manifest_name or getattr(config, "project_name", None) or invocation.project_dir.name,
        project_version=str(config.version) if config and getattr(config, "version", None) else None,
        profile_name=getattr(config, "profile_name", None),
        arguments=command_line(invocation),
    )


def _datasets(command: DbtCommand, kept: Kept, owners: Owners) -> Datasets:
    (warehouse, connection), graph, invocation = command.warehouse(), command.graph(), command.invocation
    schemas = Schemas(graph, warehouse.dialect, kept, _catalog(invocation), _seed_types(invocation))
    return Datasets(graph, warehouse, connection, schemas, owners, invocation.project_dir)


def _owners(command: DbtCommand, default: str) -> Owners:
    """Return the function that names a node's owners as its asset in Dagster has them."""
    translator = command.invocation.dagster_dbt_translator

    def owners(node: Node) -> list[str]:
        owner = read_node_meta(node, _ignore).owner
        # Only what the project builds is the project's: a source or a test without an owner has none.
        fallback = default if node["resource_type"] in ASSETS else None
        return resolve_owners(owner, translator.get_owners(command.graph().with_group(node)), fallback, _ignore)

    return owners


def _ignore(_: str) -> None:
    """Do nothing: the translator has warned already."""


def _catalog(invocation: DbtCliInvocation) -> dict[str, Any]:
    """Return what the last `dbt docs generate` has seen in the warehouse, if there was one."""
    try:
        return read_catalog(catalog_file(invocation.project_dir, command_line(invocation)))
    except CatalogError as error:
        logger.warning("lineage does without dbt's catalog: %s", error)
        return {}


def _seed_types(invocation: DbtCliInvocation) -> SeedTypes:
    adapter = invocation.adapter

    def types(file: Path, node: Node) -> Mapping[str, str]:
        if adapter is None:
            return {}
        from dbt_common.clients.agate_helper import from_csv  # imported only where a seed has changed

        told = node.get("config", {}).get("column_types") or {}
        with warnings.catch_warnings():
            # dbt warns of a configured column that the file lacks; here agate would once more, without naming the file.
            warnings.simplefilter("ignore", RuntimeWarning)
            table = from_csv(file, text_columns=told.keys(), delimiter=node.get("config", {}).get("delimiter") or ",")
        return {name: told.get(name) or adapter.convert_type(table, i) for i, name in enumerate(table.column_names)}

    return types
