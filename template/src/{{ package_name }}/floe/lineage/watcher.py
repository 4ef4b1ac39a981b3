"""The lineage watcher, which turns a step and its dbt events into run events and sends them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any

from openlineage.client.event_v2 import RunEvent

from ..assets.catalog import StepAssets
from ..dbt.node_events import CommandFinished, DbtEvent, NodeFinished
from ..delivery.budget import is_spent
from ..delivery.counts import Counts
from ..delivery.diagnosis import EndpointError, explain
from ..faults import Losses, detail
from ..redact import redact
from ..settings import Settings
from ..step import Step
from ..watcher import DbtCommand, Ending, Record
from .endpoint import lineage_hints, open_lineage
from .events import RunEventBuilder, lean
from .outbox import Outbox
from .sources import CommandSources, dagster_run_event_builder, run_event_builder, step_event_builder
from .step_events import StepEventBuilder
from .table_watcher import TableWatcher


class LineageWatcher:
    """A watcher that sends run events while dbt runs."""

    name = "lineage"
    wants_statements = False

    def __init__(self, step: Step, settings: Settings, outbox: Outbox) -> None:
        self._step = step
        self._settings = settings
        self._outbox = outbox
        self._losses = Losses(self.name)
        self._hints = lineage_hints()
        # The builder of any command can make the events of the Dagster run.
        self._builder: RunEventBuilder | None = None
        self._step_builder: StepEventBuilder | None = None  # of a step of Python code
        self._has_started_run = False

    @classmethod
    def open(cls, step: Step, settings: Settings, log: logging.Logger) -> LineageWatcher | TableWatcher:
        """Open the endpoint; if lineage is off, return a watcher that sends nothing.

        If the configuration is wrong, lineage is off, which `log` reports.
        """
        try:
            outbox = open_lineage(
                settings, step.run_id, step.is_running, replays=not is_spent(settings.state_dir, step.run_id)
            )
        except EndpointError as error:
            log.warning("Lineage is off: %s", redact(str(error)))
            outbox = None
        return cls(step, settings, outbox) if outbox else TableWatcher.open(step, settings, log)

    def environment(self) -> Mapping[str, str]:
        """Return no variables, because dbt sends no lineage of its own."""
        return {}

    def begin(self, assets: StepAssets) -> None:
        """Send the start of the step, except for one that builds dbt's nodes, which have events of their own.

        If the step is the whole run, send the start of the Dagster run before it.
        """
        self._start_run(lambda: dagster_run_event_builder(self._step, self._settings, self._losses))
        if not assets.is_dbt:
            self._step_builder = step_event_builder(self._step, assets, self._settings, self._losses)
            self._put(self._step_builder.started(datetime.now(UTC)))

    def attach(self, command: DbtCommand) -> Record:
        """Watch a command; before the first one, send the start of the Dagster run if the step is the whole run."""
        sources = CommandSources(command, self._settings, self._step)
        builder = run_event_builder(self._step, sources, self._settings, self._losses)
        self._start_run(lambda: builder)
        self._builder = builder
        return partial(self._record, builder, sources)

    def finish(self, ending: Ending) -> None:
        """Send the end of a step of Python code, and the end of the Dagster run if this step ends it.

        In a run of several steps, the step that ends the run also sends its start. Otherwise the run would stay open at
        the receiver if its last step is not watched.
        """
        if self._step_builder:
            ended_at = datetime.now(UTC)
            for event in self._step_builder.finished(ended_at, ending.outcome, ending.message, ending.results):
                self._put(event)
        if ending.run is None or not ending.run.is_certain:
            return
        builder = self._builder or dagster_run_event_builder(self._step, self._settings, self._losses)
        if not self._has_started_run:
            self._put(builder.run_started(self._step.run_started_at))
        self._put(builder.run_finished(datetime.now(UTC), ending.run.outcome, ending.run.message))

    def close(self, deadline: float, _: Mapping[str, Counts]) -> Counts:
        """Send the remaining events until `deadline`; return the counts of all events."""
        counts = self._outbox.close(deadline)
        counts.last_error = explain(counts.last_error, self._hints)
        self._losses.add_to(counts)
        return counts

    def _start_run(self, builder: Callable[[], RunEventBuilder]) -> None:
        """Send the start of the Dagster run once, if the step is the whole run; the first attempt has sent it."""
        if self._step.is_whole_run and not self._has_started_run:
            if self._step.attempt == 0:
                self._put(builder().run_started(self._step.run_started_at))
            self._has_started_run = True

    def _record(self, builder: RunEventBuilder, sources: CommandSources, event: DbtEvent) -> Mapping[str, Any] | None:
        """Send the run events of `event`; at a command's end, save the column lineage computed from its SQL."""
        for run_event in builder.events(event):
            self._put(run_event)
        match event:
            case NodeFinished():
                return sources.dagster_metadata(event)
            case CommandFinished():
                sources.save()
        return None

    def _put(self, event: RunEvent) -> None:
        """Send an event; if an internal error prevents its conversion to JSON, send it without its details."""

        def is_accepted() -> bool:
            self._outbox.put(event)
            return True

        with self._losses.of(event.job.name):
            if not detail(is_accepted):
                self._outbox.put(lean(event))
