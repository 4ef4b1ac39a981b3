"""What Dagster and dagster-dbt know of a step -> the `Lineage` of its dbt command.

The rim of the pure modules: here the environment, git, the project's files and dbt's adapter are read.
"""

from __future__ import annotations

import json
import logging
import os
import warnings
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import dagster as dg
from dagster_dbt import DbtCliInvocation

from ..graph import Node
from ..settings import Settings
from ..step import steps_of_run
from ..watcher import DbtCommand
from .datasets import Datasets
from .facets import ColumnClassificationDatasetFacet
from .jobs import Jobs, Repository
from .kept_columns import Kept
from .parents import Command, DagsterRun, JobRun, outer_run
from .run_events import Lineage
from .schemas import Schemas, SeedTypes

logger = logging.getLogger(__name__)

# Tags of a Dagster run that say why it runs, and its schedule's tick.
RUN_TAGS = ("dagster/partition", "dagster/schedule_name", "dagster/sensor_name", "dagster/backfill")
SCHEDULED = ".dagster/scheduled_execution_time"

_claimed: set[tuple[str, int]] = set()


def lineage_of(context: dg.AssetExecutionContext, command: DbtCommand, settings: Settings) -> tuple[Lineage, Kept]:
    """Return what turns the command's lives into events, and the columns that are to be saved at its end."""
    if settings.facet_schema:
        ColumnClassificationDatasetFacet.schema_url = settings.facet_schema
    kept = Kept(settings.state_dir / "columns.json")
    project_dir = command.invocation.project_dir
    lineage = Lineage(
        dagster_run_of(context, settings.namespace),
        _command(command.invocation),
        command.graph,
        cache(lambda: _datasets(command, kept)),
        cache(
            lambda: Jobs(
                command.graph(), command.warehouse()[0].dialect, project_dir, Repository.around(project_dir.resolve())
            )
        ),
    )
    return lineage, kept


def dagster_run_of(context: dg.AssetExecutionContext, namespace: str) -> DagsterRun:
    """Return what OpenLineage is to know of the Dagster run."""
    outer = outer_run(os.environ)
    tags = context.run.tags
    return DagsterRun(
        run=JobRun(namespace, context.job_name, context.run_id),
        parent=outer[0] if outer else None,
        root=outer[1] if outer else None,
        nominal=_nominal(context),
        tags={name: tags[name] for name in RUN_TAGS if name in tags},
        version=dg.__version__,
    )


def claim_run(context: dg.AssetExecutionContext) -> bool:
    """Say whether the events of the Dagster run itself are the caller's to send.

    They are the first command's of each attempt, and only if the step is all that the run consists of: of a run with
    more steps no process of a step knows the end.
    """
    attempt = (context.run_id, context.retry_number)
    if attempt in _claimed:
        return False
    _claimed.add(attempt)
    return len(steps_of_run(context)) == 1


def _nominal(context: dg.AssetExecutionContext) -> tuple[str, str | None] | None:
    if context.has_partition_key or context.has_partition_key_range:
        try:
            window = context.partition_time_window
        except Exception:  # partitioned by something else than time; Dagster has a kind of error for each
            logger.debug("no time window", exc_info=True)
        else:
            return window.start.isoformat(), window.end.isoformat()
    if tick := context.run.tags.get(SCHEDULED):
        return tick, None
    return None


def _command(invocation: DbtCliInvocation) -> Command:
    config = invocation.adapter.config if invocation.adapter else None
    arguments = [str(each) for each in invocation.process.args] if isinstance(invocation.process.args, list) else []
    return Command(
        project_name=invocation.manifest["metadata"]["project_name"],
        project_version=str(config.version) if config and getattr(config, "version", None) else None,
        profile_name=getattr(config, "profile_name", None),
        arguments=arguments,
    )


def _datasets(command: DbtCommand, kept: Kept) -> Datasets:
    (warehouse, connection), graph, invocation = command.warehouse(), command.graph(), command.invocation
    schemas = Schemas(graph, warehouse.dialect, kept, _catalog(invocation.project_dir), _seed_types(invocation))
    return Datasets(graph, warehouse, connection, schemas)


def _catalog(project_dir: Path) -> dict[str, Any]:
    """Return what the last `dbt docs generate` has seen in the warehouse, if there was one."""
    file = project_dir / "target" / "catalog.json"
    loaded: dict[str, Any] = json.loads(file.read_bytes()) if file.is_file() else {}
    return loaded


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
