"""The watcher of a step whose lineage is off: it records the tables that dbt builds, and sends nothing.

Dagster's catalog shows their columns. Later runs need them too: dbt creates the table of a seed, a snapshot or an
incremental model once, and afterwards only changes its rows. So a run with lineage knows the columns of such a table
only if the run that created it has recorded them.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from typing import Any

from ..assets.catalog import StepAssets
from ..dbt.manifest_graph import HOOK
from ..dbt.node_events import CommandFinished, DbtEvent, NodeFinished, NodeStarted
from ..settings import Settings
from ..step import Step
from ..watcher import DbtCommand, Ending, Record
from .sources import CommandSources


class TableWatcher:
    """A watcher that takes the place of the lineage watcher if lineage is off."""

    name = "lineage"
    wants_statements = False

    def __init__(self, step: Step, settings: Settings) -> None:
        self._step = step
        self._settings = settings

    @classmethod
    def open(cls, step: Step, settings: Settings, _log: logging.Logger) -> TableWatcher:
        """Return the watcher of a step."""
        return cls(step, settings)

    def environment(self) -> Mapping[str, str]:
        """Return no variables."""
        return {}

    def begin(self, _: StepAssets) -> None:
        """Do nothing, because only dbt's tables are recorded."""

    def attach(self, command: DbtCommand) -> Record:
        """Watch a command."""
        return partial(self._record, CommandSources(command, self._settings, self._step))

    def finish(self, ending: Ending) -> None:
        """Do nothing, because a table has been recorded with the command that built it."""

    def close(self, _deadline: float, _closed: Mapping[str, object]) -> None:
        """Return no counts, because nothing is sent."""

    def _record(self, sources: CommandSources, event: DbtEvent) -> Mapping[str, Any] | None:
        if isinstance(event, NodeStarted | NodeFinished) and event.resource_type == HOOK:
            return None
        match event:
            case NodeStarted():
                sources.datasets.started(sources.graph.node(event.unique_id))
            case NodeFinished():
                node = sources.graph.node(event.unique_id)
                sources.datasets.ended(node, event, full_refresh=sources.info.full_refresh)
                return sources.dagster_metadata(event)
            case CommandFinished():
                sources.save()
        return None
