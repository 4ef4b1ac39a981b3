"""The sources of run events: the step, the dbt command, its project and its warehouse.

This module reads the environment, git, the project's files and dbt's adapter, so that the other modules stay pure.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import dagster as dg
from dagster_dbt import DbtCliInvocation

from ..assets.catalog import StepAssets
from ..assets.meta import Owners, read_node_meta, resolve_owners
from ..assets.results import plain
from ..assets.translator import COLUMN_SCHEMA
from ..dbt.catalog import Catalog, CatalogError, catalog_file, read_catalog
from ..dbt.command import dbt_command
from ..dbt.manifest_graph import ASSETS, Graph, Node, relation_text
from ..dbt.node_events import NodeFinished, Outcome
from ..dbt.volumes import volumes
from ..faults import Losses, detail
from ..settings import Settings
from ..step import RANGE_TAGS, Step
from ..watcher import DbtCommand
from .asset_names import AssetNames
from .columns.cache import ColumnCache
from .columns.schemas import Schemas
from .columns.seeds import SeedTypes
from .custom_facets import ColumnClassificationDatasetFacet
from .dagster_metadata import table_metadata
from .datasets import DatasetBuilder
from .events import RunEventBuilder
from .jobs import JobFacets, Repository
from .parents import CommandInfo, JobRun, RunContext, outer_run
from .step_events import StepEventBuilder

logger = logging.getLogger(__name__)

# Tags of a Dagster run that give the reason for it, and its schedule's tick.
RUN_TAGS = (
    "dagster/partition",
    *RANGE_TAGS,
    "dagster/schedule_name",
    "dagster/sensor_name",
    "dagster/backfill",
)
SCHEDULED = ".dagster/scheduled_execution_time"


def run_event_builder(step: Step, sources: CommandSources, settings: Settings, losses: Losses) -> RunEventBuilder:
    """Return the builder of a command's run events."""
    if settings.facet_schema:
        ColumnClassificationDatasetFacet.schema_url = settings.facet_schema
    return RunEventBuilder(run_context(step, settings), sources.info, sources, losses)


def _column_cache(command: DbtCommand, settings: Settings) -> ColumnCache:
    column_cache = ColumnCache(settings.state_dir / "columns.json")
    if dbt_command(command.arguments) == "clone":  # it replaces tables, and dbt has no events of it
        column_cache.forget_tables()
    return column_cache


def dagster_run_event_builder(step: Step, settings: Settings, losses: Losses) -> RunEventBuilder:
    """Return a builder for a step in which dbt was never started: it makes only the events of the Dagster run."""
    return RunEventBuilder(run_context(step, settings), CommandInfo(project_name=""), None, losses)


def step_event_builder(step: Step, assets: StepAssets, settings: Settings, losses: Losses) -> StepEventBuilder:
    """Return the builder of the run events of a step of Python code."""
    repository = Repository.around(assets.source[0].parent) if assets.source else None
    names = AssetNames(assets.catalog, settings)
    return StepEventBuilder(run_context(step, settings), step, assets, names, repository, losses)


class CommandSources:
    """The sources of a command's node events, read when the first node starts.

    Attributes:
        info: The facts about the command.
    """

    def __init__(self, command: DbtCommand, settings: Settings, step: Step) -> None:
        self._step = step
        self.info = _command_info(command)
        self._command = command
        self._column_cache = _column_cache(command, settings)
        self._owners = _owners(command, settings.owner)
        self._prices = settings.prices
        self._metadata_losses = Losses("Dagster's catalog")

    @property
    def graph(self) -> Graph:
        """Return the graph of the command's manifest."""
        return self._command.graph

    @cached_property
    def datasets(self) -> DatasetBuilder:
        """Return the builder of the datasets of the command's warehouse."""
        command = self._command
        return DatasetBuilder(
            self.graph,
            command.warehouse,
            command.connection,
            self._schemas,
            self._owners,
            command.invocation.project_dir,
        )

    @cached_property
    def _schemas(self) -> Schemas:
        return _schemas(self._command, self._column_cache, self._step)

    @cached_property
    def jobs(self) -> JobFacets:
        """Return the facets of the jobs in the command's project."""
        project_dir, dialect = self._command.invocation.project_dir, self._command.warehouse.dialect
        return JobFacets(self.graph, dialect, project_dir, Repository.around(project_dir.resolve()), self._owners)

    def dagster_metadata(self, event: NodeFinished) -> dict[str, Any]:
        """Return what Dagster's catalog is to show of the table that a node has written; nothing if it has not."""
        with self._metadata_losses.of(event.unique_id):
            return detail(self._dagster_metadata, event) or {}

    def _dagster_metadata(self, event: NodeFinished) -> dict[str, Any]:
        node = self.graph.node(event.unique_id)
        if node["resource_type"] not in ASSETS or event.outcome not in {Outcome.SUCCESS, Outcome.WARN}:
            return {}
        table, query = self._schemas.table(node), self._schemas.query(node)
        if not self._is_asset(node):
            return {}
        row_count = self.datasets.row_count(node, event, full_refresh=self.info.full_refresh)
        above = {relation_text(node): node for node in self.graph.tables_upstream(node) if self._is_asset(node)}
        upstream = {name: self._spec(node).key for name, node in above.items()}
        entries = table_metadata(self._spec(node), table, query, upstream, row_count)
        return entries | {f"dbt/{name}": value for name, value in volumes(event.response, self._prices).items()}

    def save(self) -> None:
        """Write what is known of the columns to disk, for later runs."""
        self._column_cache.save()

    def _is_asset(self, node: Node) -> bool:
        """Return whether a node is in the manifest of Dagster's assets; a command in an op may have none."""
        manifest, kind = self._command.invocation.manifest, node["resource_type"]
        return node["unique_id"] in manifest.get("sources" if kind == "source" else "nodes", {})

    def _spec(self, node: Node) -> dg.AssetSpec:
        invocation = self._command.invocation
        return invocation.dagster_dbt_translator.get_asset_spec(
            invocation.manifest, node["unique_id"], invocation.project
        )


def run_context(step: Step, settings: Settings) -> RunContext:
    """Return the facts about the Dagster run for OpenLineage."""
    outer = outer_run(os.environ)
    return RunContext(
        run=JobRun(settings.namespace, step.display_name, step.run_id),
        producer=settings.producer,
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


def _command_info(command: DbtCommand) -> CommandInfo:
    invocation = command.invocation
    config = invocation.adapter.config if invocation.adapter else None
    # A command without Dagster's selection may have no manifest.
    manifest_name = invocation.manifest.get("metadata", {}).get("project_name")
    return CommandInfo(
        project_name=manifest_name or getattr(config, "project_name", None) or invocation.project_dir.name,
        project_version=str(config.version) if config and getattr(config, "version", None) else None,
        profile_name=getattr(config, "profile_name", None),
        arguments=command.arguments,
    )


def _schemas(command: DbtCommand, column_cache: ColumnCache, step: Step) -> Schemas:
    warehouse = command.warehouse
    return Schemas(
        command.graph,
        warehouse.dialect,
        column_cache,
        _catalog(command),
        _seed_types(command.invocation),
        warehouse.namespace(command.connection),
        recreates_seeds=warehouse.recreates_seeds,
        loaded=partial(_loaded, command, step),
    )


def _loaded(command: DbtCommand, step: Step, source: Node) -> tuple[list[str], float]:
    """Return the columns that an asset in Python has recorded when it loaded the table of a dbt source, and when."""
    key = command.invocation.dagster_dbt_translator.get_asset_key(source)
    metadata, at = step.last_materialization(key)
    schema = plain(metadata).get(COLUMN_SCHEMA)
    return ([column.name for column in schema.columns], at) if isinstance(schema, dg.TableSchema) else ([], 0.0)


def _owners(command: DbtCommand, default: str) -> Owners:
    """Return a function that returns a node's owners, the same as those of its asset in Dagster."""
    translator = command.invocation.dagster_dbt_translator

    def owners(node: Node) -> list[str]:
        owner = read_node_meta(node, _ignore).owner
        # The default owner is only for what the project builds; a source or a test without an owner has none.
        fallback = default if node["resource_type"] in ASSETS else None
        return resolve_owners(owner, translator.get_owners(command.graph.with_group(node)), fallback, _ignore)

    return owners


def _ignore(_: str) -> None:
    """Ignore a problem, because the translator has already warned about it."""


def _catalog(command: DbtCommand) -> Catalog:
    """Return the catalog of the last `dbt docs generate`, and that of the run that the command defers to."""
    deferral = command.deferral
    own = _content(lambda: catalog_file(command.invocation.project_dir, command.arguments))
    return Catalog(own, _content(lambda: deferral.catalog_file) if deferral else {})


def _content(file: Callable[[], Path]) -> Mapping[str, Any]:
    try:
        return read_catalog(file())
    except CatalogError as error:
        logger.warning("Lineage continues without dbt's catalog: %s", error)
        return {}


def _seed_types(invocation: DbtCliInvocation) -> SeedTypes:
    adapter = invocation.adapter

    def types(file: Path, node: Node) -> Mapping[str, str]:
        if adapter is None:
            return {}
        from dbt_common.clients.agate_helper import from_csv  # imported only if a seed has changed

        column_types = node.get("config", {}).get("column_types") or {}
        with warnings.catch_warnings():
            # dbt warns about a configured column that the file lacks. agate would warn again, without the file's name.
            warnings.simplefilter("ignore", RuntimeWarning)
            table = from_csv(
                file, text_columns=column_types.keys(), delimiter=node.get("config", {}).get("delimiter") or ","
            )
        return {
            name: column_types.get(name) or adapter.convert_type(table, i) for i, name in enumerate(table.column_names)
        }

    return types
