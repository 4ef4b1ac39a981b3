"""The failures and recoveries in Dagster's event log since the last evaluation, as messages.

One message per failure:

- A failed run has one message, also if it failed before its first step. It names the run's failed checks, which have no
  message of their own. A canceled run has none, nor has a run that Dagster itself is about to repeat.
- A failed check, of whatever severity, of any other run has one message when the run has ended. While it goes on
  failing, it has no other.
- An asset that Dagster finds to be later than its freshness policy allows has one message.
- Each of these recovers once: when the job succeeds on all that the failed run should have built, when the check
  passes, when the asset is fresh. A check that a failed run's message has named recovers with that run.
"""

from __future__ import annotations

import logging
import math
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from ..redact import ANSI_CODES, redact
from ..run_outcome import step_end
from ..step import ASSET_JOB, IMPLICIT_JOB, RANGE_TAGS, Step
from .alert import Alert, Kind
from .catalog import Catalog
from .history import History, OpenRun, OpenSubject, add_failed, repaired

logger = logging.getLogger(__name__)

PAGE = 200  # events that are read at once
# Younger events wait for the next evaluation: one with a smaller id may still be on its way into the database, and
# Dagster marks a failed run that it is going to repeat only after it has recorded the failure.
SETTLING_SECONDS = 2.0
OLDEST_SECONDS = 86_400.0  # older failures are counted as known, without a message
RUN_ENDS = (dg.DagsterEventType.RUN_SUCCESS, dg.DagsterEventType.RUN_FAILURE, dg.DagsterEventType.RUN_CANCELED)
# What the end of a run is read from. Of a run without a failed step, an engine event has the reason.
OF_RUN = {dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.ASSET_CHECK_EVALUATION}
WITHOUT_RUN = {dg.DagsterEventType.FRESHNESS_STATE_CHANGE, dg.DagsterEventType.ASSET_CHECK_EVALUATION}
NO_RUN = ""  # the id under which Dagster stores events without a run
LATE, FRESH = "FAIL", "PASS"
WILL_RETRY_TAG = "dagster/will_retry"
RESUMED_TAG = "dagster/is_resume_retry"  # of a run that was re-executed from the failure
# A line of dbt's progress, which says less than the messages that follow.
PROGRESS = re.compile(r"\d+ of \d+ (?:ERROR|FAIL)\b")
PARTITION_TAGS = ("dagster/partition", *RANGE_TAGS)
CAUSE_LINES, CAUSE_CHARACTERS = 20, 1500
MOST_CHECKS = 10  # of a run, that its message names


@dataclass(slots=True, kw_only=True)
class EventReader:
    """The reader of Dagster's events for one evaluation.

    Attributes:
        instance: Dagster's instance.
        catalog: The assets of this code location.
        history: What is known from earlier evaluations; it changes while events are read.
        is_own: Says whether a run belongs to this code location.
        deadline: The time of `time.monotonic` after which the rest is left to the next evaluation.
    """

    instance: dg.DagsterInstance
    catalog: Catalog
    history: History
    is_own: Callable[[dg.DagsterRun], bool]
    deadline: float

    def read(self) -> Iterator[Alert]:
        """Yield a message for each failure and each recovery since the last evaluation, in order.

        The first evaluation only notes the position: nothing that happened before it has a message.
        """
        newest_run_event, newest_event, cursor = self._newest()
        history = self.history
        is_first = history.last_run_event is None
        # Ids that are smaller than known ones are those of another database, or the newest events were deleted.
        starts_again = self._is_run_event_gone(newest_run_event), newest_event < history.last_event_id
        if is_first or (newest_run_event < (history.last_run_event or -1) and starts_again[1]):
            history.runs, history.checks, history.late = [], {}, {}
        if is_first or starts_again[0]:
            self._go_back_to_run_event()
        if is_first:
            history.last_event, history.last_event_id = cursor, newest_event
        elif starts_again[1]:
            self._go_back_to_event()
        yield from self._ends_of_runs(newest_run_event)
        yield from self._events_without_run()

    def _is_run_event_gone(self, newest: int) -> bool:
        """Return whether the last event that was read was deleted; another may have got its id since."""
        last, at = self.history.last_run_event, self.history.last_run_at
        if last is None or last < 0:
            return False
        if newest < last or not at:
            return newest < last
        times = {
            record.event_log_entry.timestamp
            for kind in RUN_ENDS
            for record in self._page(kind, last - 1, limit=1)
            if record.storage_id == last
        }
        return at not in times

    def _go_back_to_run_event(self) -> None:
        """Go to the last event that is not younger than the last one that was read; without such a time, to the last.

        Those that have been added since are younger, whatever their ids.
        """
        until, position = self.history.last_run_at or math.inf, (-1, 0.0)
        for kind in RUN_ENDS:
            before: int | None = None
            while True:
                filters = dg.RunStatusChangeRecordsFilter(event_type=kind, before_storage_id=before)  # type: ignore[arg-type]
                page = self.instance.fetch_run_status_changes(filters, limit=PAGE).records
                read = [record for record in page if record.event_log_entry.timestamp <= until]
                if read:
                    position = max(position, (read[0].storage_id, read[0].event_log_entry.timestamp))
                if read or len(page) < PAGE:
                    break
                before = page[-1].storage_id
        self.history.last_run_event, self.history.last_run_at = position

    def _go_back_to_event(self) -> None:
        """Go to the last event without a run that is not younger than the last one that was read, likewise."""
        until, cursor = self.history.last_event_at or math.inf, None
        while True:
            page = self.instance.get_records_for_run(
                NO_RUN, cursor=cursor, of_type=WITHOUT_RUN, limit=1, ascending=False
            )
            cursor = page.cursor
            if not page.records:
                self.history.last_event, self.history.last_event_id = "", -1
                return
            if page.records[0].event_log_entry.timestamp <= until:
                self.history.last_event, self.history.last_event_id = cursor, page.records[0].storage_id
                return

    def _newest(self) -> tuple[int, int, str]:
        """Return the ids of the newest event about a run and of the newest without one, and a cursor for the latter."""
        ends = [self.instance.fetch_run_status_changes(kind, limit=1).records for kind in RUN_ENDS]
        others = self.instance.get_records_for_run(NO_RUN, of_type=WITHOUT_RUN, limit=1, ascending=False)
        newest = max((records[0].storage_id for records in ends if records), default=-1)
        return newest, others.records[0].storage_id if others.records else -1, others.cursor

    def _ends_of_runs(self, newest: int) -> Iterator[Alert]:
        while self.history.last_run_event is None or self.history.last_run_event < newest:
            pages = [self._page(kind, self.history.last_run_event) for kind in RUN_ENDS]
            # Beyond the last event of a full page, there may be others of the same kind.
            ends = [page[-1].storage_id for page in pages if len(page) == PAGE]
            for record in sorted((record for page in pages for record in page), key=lambda record: record.storage_id):
                entry = record.event_log_entry
                if ends and record.storage_id > min(ends):
                    break
                if self._must_wait(entry.timestamp):
                    return
                yield from self._guarded(self._end_of_run, entry)
                self.history.last_run_event, self.history.last_run_at = record.storage_id, entry.timestamp
            if not ends:
                return

    def _page(self, kind: dg.DagsterEventType, after: int | None, limit: int = PAGE) -> list[Any]:
        filters = dg.RunStatusChangeRecordsFilter(event_type=kind, after_storage_id=after)  # type: ignore[arg-type]
        return [*self.instance.fetch_run_status_changes(filters, limit=limit, ascending=True).records]

    def _events_without_run(self) -> Iterator[Alert]:
        has_more = True
        while has_more:
            page = self._page_without_run(PAGE)
            for number, record in enumerate(page.records, 1):
                entry = record.event_log_entry
                if self._must_wait(entry.timestamp):
                    if number > 1:
                        self.history.last_event = self._page_without_run(number - 1).cursor
                    return
                yield from self._guarded(self._event_without_run, entry)
                self.history.last_event_id, self.history.last_event_at = record.storage_id, entry.timestamp
            self.history.last_event, has_more = page.cursor, page.has_more

    def _page_without_run(self, limit: int) -> Any:
        after = self.history.last_event or None
        return self.instance.get_records_for_run(NO_RUN, cursor=after, of_type=WITHOUT_RUN, limit=limit)

    def _must_wait(self, timestamp: float) -> bool:
        return 0 <= time.time() - timestamp < SETTLING_SECONDS or time.monotonic() > self.deadline

    def _guarded(self, read: Callable[[Any], Iterator[Alert]], entry: dg.EventLogEntry) -> Iterator[Alert]:
        """Yield the messages of an event that are recent; an event that cannot be read must not hold up the others."""
        try:
            alerts = [*read(entry)]
        except Exception as error:
            if "FLOE_RAISE" in os.environ:  # set by tests
                raise
            logger.warning("An event of run %r has no message: %s", entry.run_id, redact(str(error)), exc_info=True)
            return
        if time.time() - entry.timestamp < OLDEST_SECONDS:
            yield from alerts

    def _end_of_run(self, entry: dg.EventLogEntry) -> Iterator[Alert]:
        run = self.instance.get_run_by_id(entry.run_id)
        if run is None or not self.is_own(run):
            return
        event = entry.dagster_event
        records = self.instance.get_records_for_run(run.run_id, of_type=OF_RUN).records
        entries = [record.event_log_entry for record in records]
        # If a check ran several times, such as in a retry, the last time counts.
        checks = {_name(evaluation): (entry, evaluation) for entry in entries if (evaluation := self._own_check(entry))}
        if event is None or event.event_type is not dg.DagsterEventType.RUN_FAILURE:
            for check_entry, evaluation in checks.values():
                yield from self._check(check_entry, evaluation, run)
            if event and event.event_type is dg.DagsterEventType.RUN_SUCCESS:
                yield from self._succeeded(run, entry.timestamp)
        elif run.tags.get(WILL_RETRY_TAG) != "true":
            for check_entry, evaluation in checks.values():
                if evaluation.passed:
                    yield from self._check(check_entry, evaluation, run)
            failures = [event for entry in entries if (event := entry.dagster_event) and event.is_step_failure]
            failed = {name: check for name, check in checks.items() if not check[1].passed}
            yield self._failed(run, entry, failures[0] if failures else None, failed)

    def _failed(
        self,
        run: dg.DagsterRun,
        entry: dg.EventLogEntry,
        failure: dg.DagsterEvent | None,
        checks: dict[str, tuple[dg.EventLogEntry, dg.AssetCheckEvaluation]],
    ) -> Alert:
        """Return the message of a failed run; `failure` is its first failed step, and `checks` have failed in it."""
        step = failure.step_key if failure else None
        cause = (step_end(failure).message if failure else "") or self._reason(run, entry)
        of_step = {check.asset_key for entry, check in checks.values() if step and entry.step_key == step}
        keys = self.catalog.named_assets(cause) | of_step or self.catalog.assets_of(run, step)
        owners = self.catalog.owners(sorted(keys | {check.asset_key for _, check in checks.values()}))
        for name in checks:
            covered = OpenSubject(at=entry.timestamp, owners=[*owners], run_id=run.run_id)
            self.history.checks.setdefault(name, covered)
        open_run = self._open_run(run, entry.timestamp, [*owners])
        add_failed(self.history, open_run)
        details = [f"failed check: {_described(check)}" for _, check in checks.values()]
        if len(details) > MOST_CHECKS:
            details[MOST_CHECKS:] = [f"and {len(details) - MOST_CHECKS} other failed checks"]
        if open_run.failures > 1:
            details.append(f"{open_run.failures} failures in a row, the first at {_time(open_run.at)}")
        return Alert(
            key=f"run {run.run_id} failed",
            kind=Kind.RUN,
            subject=_job(run) + (f", in step {step}" if step else ""),
            at=entry.timestamp,
            cause=_shortened(cause),
            owners=owners,
            run_id=run.run_id,
            job=_job(run),
            details=tuple(details),
        )

    def _reason(self, run: dg.DagsterRun, entry: dg.EventLogEntry) -> str:
        """Return why a run without a failed step has failed."""
        event = entry.dagster_event
        error = getattr(event.event_specific_data, "error", None) if event else None
        engine = self.instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT).records
        errors = [getattr(record.event_log_entry.dagster_event, "engine_event_data", None) for record in engine]
        found = [error, *(data.error for data in reversed(errors) if data)]
        message = next((error.message for error in found if error), None)
        return redact(
            ANSI_CODES.sub("", message or (event.message if event else None) or "no reason was given").strip()
        )

    def _succeeded(self, run: dg.DagsterRun, at: float) -> Iterator[Alert]:
        for failed in repaired(self.history, self._open_run(run, at, [])):
            times = "" if failed.failures == 1 else f" after {failed.failures} failures"
            yield Alert(
                key=f"run {run.run_id} repairs {failed.root} {failed.partition}",
                kind=Kind.RECOVERY,
                subject=f"{_job(run)} succeeds again{times}",
                at=at,
                owners=tuple(failed.owners),
                run_id=run.run_id,
                job=_job(run),
                details=(f"failed since {_time(failed.at)}",),
            )

    def _open_run(self, run: dg.DagsterRun, at: float, owners: list[str]) -> OpenRun:
        tags = run.tags
        is_resumed = tags.get(RESUMED_TAG) == "true" or not run.is_success
        return OpenRun(
            job_name=run.job_name,
            partition="...".join(tags[name] for name in PARTITION_TAGS if name in tags),
            selection=self._selection(run),
            root=(run.root_run_id if is_resumed else None) or run.run_id,
            at=at,
            owners=owners,
        )

    def _selection(self, run: dg.DagsterRun) -> list[str] | None:
        """Return what a run is limited to; None for the whole job."""
        if run.asset_selection:
            return sorted(key.to_user_string() for key in run.asset_selection)
        if run.resolved_op_selection is not None:
            return sorted(run.resolved_op_selection)
        # Of assets that a script materializes, and of a repeated part of a run, only the steps are known.
        is_of_script = run.job_name.startswith(IMPLICIT_JOB) and not run.job_name.startswith(ASSET_JOB)
        if (is_of_script or run.parent_run_id) and run.execution_plan_snapshot_id:
            plan = self.instance.get_execution_plan_snapshot(run.execution_plan_snapshot_id)
            if is_of_script or run.step_keys_to_execute:
                return sorted(plan.step_keys_to_execute)
        return None

    def _event_without_run(self, entry: dg.EventLogEntry) -> Iterator[Alert]:
        if evaluation := self._own_check(entry):
            yield from self._check(entry, evaluation, None)
        data = entry.dagster_event.event_specific_data if entry.dagster_event else None
        state = getattr(data, "new_state", None)
        if state is not None and self.catalog.has(key := data.key):  # type: ignore[union-attr]
            yield from self._freshness(key, state.value, entry.timestamp)

    def _freshness(self, key: dg.AssetKey, state: str, at: float) -> Iterator[Alert]:
        name = key.to_user_string()
        owners = self.catalog.owners([key])
        if state == LATE and name not in self.history.late:
            self.history.late[name] = OpenSubject(at=at, owners=[*owners])
            last = self.instance.get_latest_materialization_event(key)
            built = f"last built at {_time(last.timestamp)}" if last else "never built"
            cause = "; ".join(filter(None, (built, self.catalog.window(key))))
            yield Alert(
                key=f"asset {name} late {at}",
                kind=Kind.LATE,
                subject=name,
                at=at,
                cause=cause,
                owners=owners,
                asset=name,
            )
        elif state == FRESH and (late := self.history.late.pop(name, None)):
            yield Alert(
                key=f"asset {name} fresh {at}",
                kind=Kind.RECOVERY,
                subject=f"{name} is fresh again",
                at=at,
                owners=owners,
                asset=name,
                details=(f"late since {_time(late.at)}",),
            )

    def _own_check(self, entry: dg.EventLogEntry) -> dg.AssetCheckEvaluation | None:
        data = entry.dagster_event.event_specific_data if entry.dagster_event else None
        return data if isinstance(data, dg.AssetCheckEvaluation) and self.catalog.has(data.asset_key) else None

    def _check(
        self, entry: dg.EventLogEntry, evaluation: dg.AssetCheckEvaluation, run: dg.DagsterRun | None
    ) -> Iterator[Alert]:
        """Yield a message if a check fails or recovers, in a run that has not failed or outside of runs."""
        name, owners = _name(evaluation), self.catalog.owners([evaluation.asset_key])
        known = self.history.checks.get(name)
        job, run_id = (_job(run), run.run_id) if run else ("", "")
        asset = evaluation.asset_key.to_user_string()
        if not evaluation.passed and (known is None or known.run_id):
            self.history.checks[name] = OpenSubject(at=entry.timestamp, owners=[*owners])
            yield Alert(
                key=f"check {name} failed {run_id} {entry.timestamp}",
                kind=Kind.CHECK,
                subject=_described(evaluation),
                at=entry.timestamp,
                cause=_shortened(_reason_of(evaluation)),
                owners=owners,
                run_id=run_id,
                job=job,
                asset=asset,
            )
        elif evaluation.passed and known:
            del self.history.checks[name]
            if not known.run_id:
                yield Alert(
                    key=f"check {name} passed {run_id} {entry.timestamp}",
                    kind=Kind.RECOVERY,
                    subject=f"{evaluation.check_name} of {asset} passes again",
                    at=entry.timestamp,
                    owners=owners,
                    run_id=run_id,
                    job=job,
                    asset=asset,
                    details=(f"failed since {_time(known.at)}",),
                )


def _job(run: dg.DagsterRun) -> str:
    """Return the name of a run's job in lineage."""
    step = Step(run_id=run.run_id, job_name=run.job_name, key="", run_started_at=datetime.now(UTC))
    return step.display_name


def _name(evaluation: dg.AssetCheckEvaluation) -> str:
    partition = getattr(evaluation, "partition", None)
    return f"{evaluation.asset_key.to_user_string()}:{evaluation.check_name}" + (f"@{partition}" if partition else "")


def _described(evaluation: dg.AssetCheckEvaluation) -> str:
    severity = "warning" if evaluation.severity is dg.AssetCheckSeverity.WARN else "error"
    return f"{evaluation.check_name} of {evaluation.asset_key.to_user_string()} ({severity})"


def _reason_of(evaluation: dg.AssetCheckEvaluation) -> str:
    """Return a check's description and the plain values among its metadata."""
    values = ((name, entry.value) for name, entry in evaluation.metadata.items())
    lines = [f"{name}: {value}" for name, value in values if isinstance(value, str | int | float)]
    return redact("\n".join(filter(None, (evaluation.description, *lines))))


def _shortened(text: str) -> str:
    lines = "\n".join(line for line in text.splitlines() if not PROGRESS.match(line)).strip().splitlines()
    shown = "\n".join(lines[:CAUSE_LINES])[:CAUSE_CHARACTERS]
    return shown if shown == "\n".join(lines) else f"{shown}\n…"


def _time(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC"
