"""The lineage watcher: turns a step's dbt events into run events and sends them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial

from openlineage.client.event_v2 import RunEvent

from ..dbt.node_events import CommandFinished, DbtEvent
from ..delivery.counts import Counts
from ..delivery.diagnosis import EndpointError
from ..faults import Losses, detail
from ..redact import redact
from ..settings import Settings
from ..step import Step
from ..watcher import DbtCommand, Ending, Record
from .columns.cache import ColumnCache
from .endpoint import open_lineage
from .events import RunEventBuilder, lean
from .outbox import Outbox
from .setup import dagster_run_event_builder, run_event_builder


class LineageWatcher:
    """Sends run events while dbt runs."""

    name = "lineage"
    wants_statements = False

    def __init__(self, step: Step, settings: Settings, outbox: Outbox) -> None:
        self._step = step
        self._settings = settings
        self._outbox = outbox
        self._losses = Losses(self.name)
        # The builder of any command can make the events of the Dagster run.
        self._builder: RunEventBuilder | None = None

    @classmethod
    def open(cls, step: Step, settings: Settings, log: logging.Logger) -> LineageWatcher | None:
        """Open the endpoint; nothing where lineage is off, or its configuration is wrong, which `log` reports."""
        try:
            outbox = open_lineage(settings, step.run_id)
        except EndpointError as error:
            log.warning("lineage is off: %s", redact(str(error)))
            return None
        return cls(step, settings, outbox) if outbox else None

    def environment(self) -> Mapping[str, str]:
        """Return nothing: dbt sends no lineage of its own."""
        return {}

    def attach(self, command: DbtCommand) -> Record:
        """Take a command; send the start of the Dagster run with the first one if the step is the whole run."""
        builder, column_cache = run_event_builder(self._step, command, self._settings, self._losses)
        if self._builder is None and self._step.is_whole_run and self._step.attempt == 0:
            self._put(builder.run_started(self._step.run_started_at))
        self._builder = builder
        return partial(self._record, builder, column_cache)

    def finish(self, ending: Ending) -> None:
        """Send the end of the Dagster run if this step ends it.

        Of several steps, the one that ends the run sends the start too, so that none is left open where no step with
        dbt comes last.
        """
        if ending.run is None or not ending.run.is_certain:
            return
        builder = self._builder or dagster_run_event_builder(self._step, self._settings, self._losses)
        if self._builder is None or not self._step.is_whole_run:  # without a lineage, dbt was never started
            self._put(builder.run_started(self._step.run_started_at))
        self._put(builder.run_finished(datetime.now(UTC), ending.run.outcome, ending.run.message))

    def close(self, deadline: float, _: Mapping[str, Counts]) -> Counts:
        """Send what is left until `deadline`; return what became of the events."""
        counts = self._outbox.close(deadline)
        self._losses.add_to(counts)
        return counts

    def _record(self, builder: RunEventBuilder, column_cache: ColumnCache, event: DbtEvent) -> None:
        """Send the run events of `event`; at a command's end, save the column lineage worked out from its SQL."""
        for run_event in builder.events(event):
            self._put(run_event)
        if isinstance(event, CommandFinished):
            column_cache.save()

    def _put(self, event: RunEvent) -> None:
        """Send an event; if a fault of ours keeps it from becoming JSON, without the details."""

        def is_taken() -> bool:
            self._outbox.put(event)
            return True

        with self._losses.of(event.job.name):
            if not detail(is_taken):
                self._outbox.put(lean(event))
