"""The delivery of what waits in the state folder, and of the ends of lost runs.

Nothing here touches what belongs to a living process: its journals are locked, and its runs have not ended in Dagster.
"""

from __future__ import annotations

import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg

from ..delivery.counts import Counts
from ..delivery.diagnosis import EndpointError
from ..delivery.journal import journals
from ..delivery.run_tags import ENDED_TAG
from ..faults import Losses
from ..ids import run_span_id
from ..lineage.backlog import OpenRun
from ..lineage.ended_runs import forget_old_marks, is_marked, mark_ended
from ..lineage.endpoint import journal_folder, lineage_client, open_lineage
from ..lineage.outbox import replay
from ..lineage.sources import dagster_run_event_builder
from ..redact import redact
from ..settings import Settings, lineage_is_off, otlp_is_off
from ..step import is_running
from ..tracing.endpoint import open_spans, resource_of, span_folder
from ..tracing.spans import Handoff, SpanBuilder
from .lost_runs import LostRun, has_ended, lost_runs

SECONDS = 20.0  # for one call; Dagster ends a sensor that takes more than a minute
# After this time, a process that Dagster has given up has either reported the end itself, or never will.
GRACE = timedelta(seconds=90)


class Sensor:
    """One evaluation of the sensor."""

    def __init__(self, instance: dg.DagsterInstance, settings: Settings, location: str | None = None) -> None:
        """Look after the runs of the code location `location`, or of all."""
        self._instance = instance
        self._location = location
        self._settings = settings
        self._folder = journal_folder(settings)
        self._deadline = time.monotonic() + SECONDS
        self._lineage_is_off = lineage_is_off(settings)
        self._traces_are_off = otlp_is_off(settings, "traces")

    @property
    def is_off(self) -> bool:
        """Return whether nothing is configured that could be sent."""
        return self._lineage_is_off and self._traces_are_off

    def run(self, since: datetime) -> tuple[str, bool]:
        """Send what waits, and end the runs lost after `since`; return a summary, and whether nothing is left to do."""
        counts: dict[str, Counts] = {}
        if not self._lineage_is_off:
            counts["lineage"] = self._replay()
        ended: list[LostRun] = []
        postponed = 0
        for run in lost_runs(self._instance, since, self._location):
            if time.monotonic() > self._deadline:
                postponed += 1
                break
            if self._may_end_otherwise(run) or not self._end_in_lineage(run):
                postponed += 1
            else:
                ended.append(run)
        if not self._traces_are_off and (ended or journals(span_folder(self._settings))):
            sent = self._send_spans(ended)
            if sent is None:  # their configuration is wrong
                postponed, ended = postponed + len(ended), []
            else:
                counts["traces"] = sent
        for run in ended:
            self._instance.add_run_tags(run.run_id, {ENDED_TAG: run.run_id})
        forget_old_marks(self._folder)
        return _summary(counts, ended, postponed), not postponed

    def _replay(self) -> Counts:
        try:
            client = lineage_client(self._settings)
        except EndpointError as error:
            return Counts(last_error=redact(str(error)))
        if client is None or not journals(self._folder):
            return Counts()
        deadline = self._deadline - SECONDS / 2
        return replay(client.transport, self._folder, deadline, self._state_of, self._is_running, waits=False)

    def _state_of(self, run_id: str) -> OpenRun:
        """Return the state of a run that a journal has left open; runs of dbt and its nodes are not in Dagster."""
        run = self._instance.get_run_by_id(run_id)
        if run is None:
            return OpenRun.LOST
        if not run.is_finished:
            return OpenRun.GOES_ON
        return OpenRun.ENDED if has_ended(run) or run.is_success else OpenRun.LOST

    def _is_running(self, run_id: str) -> bool:
        return is_running(self._instance, run_id)

    def _may_end_otherwise(self, run: LostRun) -> bool:
        """Return whether a process of the run may still report the end itself, or a journal holds events of it."""
        if datetime.now(UTC) - run.ended_at < GRACE:
            return True
        if self._lineage_is_off or is_marked(self._folder, run.run_id):
            return False
        return any(file.name.startswith(run.run_id) for file in journals(self._folder))

    def _end_in_lineage(self, run: LostRun) -> bool:
        """Send the end of a run, and its start, which the receiver may lack; return whether it is stored or sent."""
        if self._lineage_is_off or is_marked(self._folder, run.run_id):
            return True
        try:
            outbox = open_lineage(self._settings, run.run_id, self._is_running)
        except EndpointError:  # already in the summary
            return False
        if outbox:
            step = run.steps[0].step
            builder = dagster_run_event_builder(step, self._settings, Losses("lineage"))
            outbox.put(builder.run_started(step.run_started_at))
            outbox.put(builder.run_finished(run.ended_at, run.outcome, run.message))
            mark_ended(self._folder, run.run_id)
            outbox.close(min(self._deadline, time.monotonic() + 3))
        return True

    def _send_spans(self, ended: list[LostRun]) -> Counts | None:
        """Send the spans that wait, and those that the lost processes have not ended; return None if none can be."""
        spooled = _spooled(span_folder(self._settings)) if ended else ""
        delivery = open_spans(self._settings)
        if delivery is None:
            return None
        for run in ended:
            if f'"spanId":"{run_span_id(run.run_id):016x}"' in spooled:  # its process has ended its spans
                continue
            for number, lost in enumerate(run.steps):
                builder = SpanBuilder(lost.step, resource_of(self._settings), Handoff(delivery.put), lost.started_at)
                is_last = number == len(run.steps) - 1
                builder.end(
                    run.outcome,
                    run.message,
                    run_outcome=run.outcome if is_last else None,
                    run_message=run.message,
                    at=run.ended_at,
                )
        return delivery.close(max(self._deadline, time.monotonic() + 3))


def _spooled(folder: Path) -> str:
    """Return the text of all spans that wait on disk."""
    texts = []
    for file in journals(folder):
        with suppress(OSError):  # sent in the meantime
            texts.append(file.read_text(encoding="utf-8", errors="replace"))
    return "".join(texts)


def _summary(counts: dict[str, Counts], ended: list[LostRun], postponed: int) -> str:
    parts = [f"{name}: {count}" for name, count in counts.items() if count.replayed or count.sent or count.dropped]
    errors = {name: redact(count.last_error) for name, count in counts.items() if count.last_error}
    parts += [f"{name} could not be sent: {error}" for name, error in errors.items()]
    if ended:
        parts.append(f"ended {len(ended)} lost {'run' if len(ended) == 1 else 'runs'}")
    if postponed:
        parts.append(f"{postponed} may still end otherwise")
    return "; ".join(parts) or "nothing was waiting"
