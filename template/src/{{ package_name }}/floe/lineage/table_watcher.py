"""The watcher of a step whose lineage is off: it records the tables that dbt builds, and sends nothing.

dbt creates the table of a seed, a snapshot or an incremental model once, and later only changes its rows. So a run with
lineage knows the columns of such a table only if the run that created it has recorded them.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial

from ..dbt.manifest_graph import HOOK
from ..dbt.node_events import CommandFinished, DbtEvent, NodeFinished, NodeStarted
from ..settings import Settings
from ..step import Step
from ..watcher import DbtCommand, Ending, Record
from .sources import CommandTables


class TableWatcher:
    """A watcher that takes the place of the lineage watcher if lineage is off."""

    name = "lineage"
    wants_statements = False

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @classmethod
    def open(cls, _step: Step, settings: Settings, _log: logging.Logger) -> TableWatcher:
        """Return the watcher of a step."""
        return cls(settings)

    def environment(self) -> Mapping[str, str]:
        """Return no variables."""
        return {}

    def attach(self, command: DbtCommand) -> Record:
        """Watch a command."""
        return partial(self._record, CommandTables(command, self._settings))

    def finish(self, ending: Ending) -> None:
        """Do nothing, because a table has been recorded with the command that built it."""

    def close(self, _deadline: float, _closed: Mapping[str, object]) -> None:
        """Return no counts, because nothing is sent."""

    def _record(self, tables: CommandTables, event: DbtEvent) -> None:
        if isinstance(event, NodeStarted | NodeFinished) and event.resource_type == HOOK:
            return
        match event:
            case NodeStarted():
                tables.started(event)
            case NodeFinished():
                tables.ended(event)
            case CommandFinished():
                tables.save()
