"""Watches a dbt command for OpenLineage."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import dagster as dg

from ..delivery import Counts
from ..endpoints import EndpointError, open_lineage
from ..events import Life
from ..redact import redact
from ..settings import Settings
from ..step import run_started_at, steps_of_run
from ..watcher import DbtCommand, Ending
from .kept_columns import Kept
from .outbox import Outbox
from .run_events import Lineage
from .setup import claim_run, lineage_of


class LineageWatcher:
    """Sends run events while dbt runs; without an endpoint it does nothing."""

    name = "lineage"

    def __init__(self, context: dg.AssetExecutionContext, settings: Settings) -> None:
        self._context = context
        self._settings = settings
        self._outbox: Outbox | None = None
        try:
            self._outbox = open_lineage(settings, context.run_id)
        except EndpointError as error:
            context.log.warning("lineage is off: %s", redact(str(error)))
        self._lineage: Lineage | None = None
        self._kept: Kept | None = None
        self._owns_run = False
        # Of several steps only the one that ends last can know the end: it sends the start too, so that none is left
        # open where a step that runs no dbt comes last.
        self._closes_run = len(steps_of_run(context)) > 1

    @property
    def counts(self) -> Counts | None:
        """Return what has become of events so far."""
        return self._outbox.counts if self._outbox else None

    def environment(self) -> Mapping[str, str]:
        """Return nothing: dbt sends no lineage of its own."""
        return {}

    def attach(self, command: DbtCommand) -> None:
        """Take the command, and send the start of the Dagster run if it is this command's to send."""
        if self._outbox is None:
            return
        self._lineage, self._kept = lineage_of(self._context, command, self._settings)
        self._owns_run = claim_run(self._context)
        if self._owns_run and self._context.retry_number == 0:
            self._outbox.put(self._lineage.run_started(run_started_at(self._context)))

    def record(self, life: Life) -> None:
        """Send the event that `life` is."""
        if self._outbox and self._lineage:
            for event in self._lineage.events(life):
                self._outbox.put(event)

    def finish(self, ending: Ending) -> None:
        """Send the end of the Dagster run if this step ends it, and keep what was worked out of SQL."""
        if self._outbox and self._lineage and ending.run_outcome and (self._owns_run or self._closes_run):
            if self._closes_run:
                self._outbox.put(self._lineage.run_started(run_started_at(self._context)))
            self._outbox.put(self._lineage.run_finished(datetime.now(UTC), ending.run_outcome, ending.message))
        if self._kept:
            self._kept.save()

    def close(self, deadline: float) -> Counts | None:
        """Send what is left until `deadline`."""
        return self._outbox.close(deadline) if self._outbox else None
