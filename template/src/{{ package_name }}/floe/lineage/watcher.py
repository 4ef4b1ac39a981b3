"""The lineage watcher: turns a step's dbt events into run events and sends them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial

from openlineage.client.event_v2 import RunEvent

from ..dbt.node_events import CommandFinished, Life
from ..delivery.diagnosis import EndpointError
from ..delivery.sender import Counts
from ..faults import Losses, detail
from ..redact import redact
from ..settings import Settings
from ..step import Step
from ..watcher import DbtCommand, Ending, Record
from .columns.cache import Kept
from .endpoint import open_lineage
from .events import Lineage, lean
from .outbox import Outbox
from .setup import lineage_of, lineage_of_run


class LineageWatcher:
    """Sends run events while dbt runs; without an endpoint it does nothing."""

    name = "lineage"

    def __init__(self, step: Step, settings: Settings, log: logging.Logger) -> None:
        """Open the endpoint; `log` is told if its configuration is wrong."""
        self._step = step
        self._settings = settings
        self._outbox: Outbox | None = None
        try:
            self._outbox = open_lineage(settings, step.run_id)
        except EndpointError as error:
            log.warning("lineage is off: %s", redact(str(error)))
        self._losses = Losses(self.name)
        # Any command's can tell of the Dagster run.
        self._lineage: Lineage | None = None

    @property
    def counts(self) -> Counts | None:
        """Return what has become of events so far."""
        return self._outbox.counts if self._outbox else None

    def environment(self) -> Mapping[str, str]:
        """Return nothing: dbt sends no lineage of its own."""
        return {}

    def attach(self, command: DbtCommand) -> Record:
        """Take a command; send the start of the Dagster run with the first one if the step is the whole run."""
        if self._outbox is None:
            return _ignore
        lineage, kept = lineage_of(self._step, command, self._settings, self._losses)
        if self._lineage is None and self._step.is_whole_run and self._step.attempt == 0:
            self._put(self._outbox, lineage.run_started(self._step.run_started_at))
        self._lineage = lineage
        return partial(self._record, self._outbox, lineage, kept)

    def finish(self, ending: Ending) -> None:
        """Send the end of the Dagster run if this step ends it.

        Of several steps, the one that ends the run sends the start too, so that none is left open where no step with
        dbt comes last.
        """
        if self._outbox is None or ending.run is None or not ending.run.is_certain:
            return
        lineage = self._lineage or lineage_of_run(self._step, self._settings, self._losses)
        if self._lineage is None or not self._step.is_whole_run:  # without a lineage, dbt was never started
            self._put(self._outbox, lineage.run_started(self._step.run_started_at))
        self._put(self._outbox, lineage.run_finished(datetime.now(UTC), ending.run.outcome, ending.run.message))

    def close(self, deadline: float) -> Mapping[str, Counts | None]:
        """Send what is left until `deadline`; return what became of events."""
        counts = self._outbox.close(deadline) if self._outbox else None
        self._losses.add_to(counts)
        return {self.name: counts}

    def _record(self, outbox: Outbox, lineage: Lineage, kept: Kept, life: Life) -> None:
        """Send the events that `life` is; at a command's end, save what was worked out of its SQL."""
        for event in lineage.events(life):
            self._put(outbox, event)
        if isinstance(life, CommandFinished):
            kept.save()

    def _put(self, outbox: Outbox, event: RunEvent) -> None:
        """Send an event; if a fault of ours keeps it from becoming JSON, without the details."""

        def is_taken() -> bool:
            outbox.put(event)
            return True

        with self._losses.of(event.job.name):
            if not detail(is_taken):
                outbox.put(lean(event))


def _ignore(_: Life) -> None:
    """Take no note: lineage is off."""
