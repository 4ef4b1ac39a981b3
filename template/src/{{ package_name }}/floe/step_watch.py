"""The watchers of a step, shared by its code and its dbt commands until Dagster ends the attempt.

The wrapped function of an op opens them (`python/compute.py`), or else the first dbt command. A command does not know
whether another one follows, and an asset may fail after its last command. So the step and the run end when Dagster logs
the end of the attempt. Dagster does this in the step's process, under every executor and whatever the asset has done,
through the logger that assets know as `context.log`. A filter of that logger sees the event before Dagster records it,
and a handler sees it afterwards.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Protocol

import dagster as dg

from .assets.catalog import StepAssets
from .assets.results import Result, read_result
from .dbt.node_events import Outcome
from .dbt.retry import RetryStore
from .delivery.budget import seconds_left, spend
from .delivery.counts import Counts
from .delivery.limits import BUDGET_SECONDS
from .delivery.run_tags import ENDED_TAG, add_counts, hold_counts
from .faults import FaultGuard
from .lineage.watcher import LineageWatcher
from .logs import enter_step
from .redact import redact
from .run_outcome import RunEnd, StepEnd, run_end, step_end
from .settings import Settings
from .step import Context, read_step
from .tracing.watcher import MetricsWatcher, TraceWatcher
from .watcher import Ending, Scope, Watcher

# In the order of closing: metrics come last because they count what happened to the lineage events.
WATCHERS: tuple[type[Watcher], ...] = (LineageWatcher, TraceWatcher, MetricsWatcher)
ENDS = {dg.DagsterEventType.STEP_SUCCESS, dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.STEP_UP_FOR_RETRY}
# Other steps hold the lock of the run's tags only while they write them.
LOCK_SECONDS = 0.5
UNREAD = "The asset ended without reading all events of this dbt command."
LOST = "The process ended before Dagster reported the end of the step."


def _is_end(record: logging.LogRecord) -> bool:
    event = getattr(record, "dagster_event", None)
    return event is not None and event.event_type in ENDS


class Command(Protocol):
    """A dbt command that is being observed."""

    def stop(self, message: str) -> None:
        """End the command if it is open, because its events are no longer read; `message` gives the reason."""

    def keep(self) -> None:
        """Store the command, which has succeeded, because the step has not."""


class StepWatch(logging.Handler):
    """The watchers of one attempt at a step, which end with the attempt."""

    def __init__(
        self, context: Context, settings: Settings, guard: FaultGuard, assets: StepAssets | None = None
    ) -> None:
        """Open the watchers; `guard` keeps their internal errors from failing the run.

        With `assets`, those of the step, the watchers also watch its own code, from before its start.
        """
        super().__init__()
        self._assets = assets
        self._results: list[Result] = []
        self._scopes: list[Scope] = []
        self._runs_dbt = False
        self._context = context
        self._settings = settings
        self.guard = guard
        self._commands: list[Command] = []
        self._calls: list[Command] = []
        self._ended = False
        self._reasons: dict[str, str] = {}
        self.last_target: Path | None = None  # dbt's target folder of the last command
        self.step = step = read_step(context)
        self.store = RetryStore(settings.state_dir, step.run_id, step.key)
        with guard("the log"):
            enter_step(step)
        self.watchers: list[Watcher] = []
        self._off: list[str] = []  # names of signals
        self._broken: list[str] = []  # names of signals that an internal error has stopped
        for watcher_class in WATCHERS:
            self._broken.append(watcher_class.name)
            with guard(watcher_class.name):
                if watcher := watcher_class.open(step, settings, context.log):
                    self.watchers.append(watcher)
                else:
                    self._off.append(watcher_class.name)
                self._broken.pop()
        for watcher in self.watchers if assets else ():
            with guard(watcher.name):
                if assets and (scope := watcher.begin(assets)):
                    self._scopes.append(scope)
        # A test without Dagster has a plain logger, so its step ends with its command.
        self._outlives_commands = isinstance(context.log, dg.DagsterLogManager)
        if self._outlives_commands:
            context.log.addFilter(self._before_recorded)
            context.log.addHandler(self)
            # If a release of Dagster logs its events elsewhere, the remaining items are still sent at exit. `atexit`
            # would not do, because the processes of a forkserver skip it.
            self._at_exit = Finalize(None, self._end_at_exit, exitpriority=100)

    @property
    def _is_python(self) -> bool:
        """Return whether the step has run no dbt command; a run may have hundreds of such steps."""
        return self._assets is not None and not self._runs_dbt

    @classmethod
    def of(
        cls, context: Context, settings: Settings, guard: FaultGuard, assets: Callable[[], StepAssets] | None = None
    ) -> StepWatch:
        """Return the watch of the context's step, which is opened if this is the first call.

        Args:
            context: Dagster's context.
            settings: The project's settings.
            guard: Keeps internal errors from failing the run.
            assets: Returns the assets of a step whose code is watched.
        """
        handlers: list[logging.Handler] = getattr(context.log, "handlers", [])
        watches = (handler for handler in handlers if isinstance(handler, cls))
        return next(watches, None) or cls(context, settings, guard, assets() if assets else None)

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Make the step's span current inside this block, if it has one."""
        with ExitStack() as stack:
            with self.guard():
                for scope in self._scopes:
                    stack.enter_context(scope())
            yield

    def enter(self, command: Command) -> int:
        """Add a command before it starts; return its number within the attempt."""
        self._runs_dbt = True
        self._commands.append(command)
        self._calls.append(command)
        return len(self._calls)

    def leave(self, command: Command, end: StepEnd, raised: str | None) -> None:
        """Remove a command that has ended.

        Args:
            command: The command.
            end: Its end, whose message has more details from dbt than the exception.
            raised: Message of the exception that it raised, if any.
        """
        self._commands.remove(command)
        if raised and end.message:
            self._reasons[raised] = end.message
        if not self._outlives_commands:
            self._end(end)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep what the step's code has materialized or checked; end the attempt if `record` is its end.

        Dagster has recorded the event before.
        """
        event = getattr(record, "dagster_event", None)
        if event is None:
            return
        if event.event_type in ENDS:
            with self.guard():
                self._end(step_end(event))
        elif self._assets and not self._assets.is_dbt:
            with self.guard():
                if result := read_result(event, datetime.fromtimestamp(record.created, UTC)):
                    self._results.append(result)

    def _before_recorded(self, record: logging.LogRecord) -> bool:
        # The end of the only step is also the end of the run, and executors that poll the event log let go of the
        # process as soon as they see that event. Of several steps, the order in the log decides which one ends the run.
        if self.step.is_whole_run and _is_end(record):
            self.emit(record)
        return True

    def _end_at_exit(self) -> None:
        with self.guard():
            self._end(StepEnd(outcome=Outcome.INTERRUPTED, message=LOST, is_retried=True))

    def _end(self, end: StepEnd) -> None:
        if self._ended:
            return
        self._ended = True
        if self._outlives_commands:
            self._context.log.removeFilter(self._before_recorded)
            self._context.log.removeHandler(self)
            self._at_exit.cancel()
        end = replace(end, message=self._reasons.get(end.message or "", end.message))
        for command in list(self._commands):
            with self.guard():
                command.stop(end.message or UNREAD)
        self._settle(end)
        run = None
        with self.guard():
            run = run_end(self._context, self.step, end, all_steps=self._assets is not None)
        ending = Ending(
            outcome=end.outcome, message=end.message, error_type=end.error_type, run=run, results=self._results
        )
        for watcher in self.watchers:
            with self.guard(watcher.name):
                watcher.finish(ending)
        self._close(run)

    def _settle(self, end: StepEnd) -> None:
        """Store what the next attempt at the step need not repeat, or forget it after a success."""
        if end.outcome is Outcome.SUCCESS:
            with self.guard():
                self.store.clear()
        for command in self._calls if end.outcome is not Outcome.SUCCESS else ():
            with self.guard():
                command.keep()

    def _close(self, run: RunEnd | None = None) -> None:
        started = time.monotonic()
        seconds = seconds_left(self._settings.state_dir, self.step.run_id)
        deadline = started + seconds
        closed: dict[str, Counts] = {}
        for watcher in self.watchers:
            with self.guard(watcher.name):
                counts = watcher.close(deadline, closed)
                if counts is None:
                    self._off.append(watcher.name)
                else:
                    closed[watcher.name] = counts
                    self.guard.add_to(counts, watcher.name)
        for name in self._broken:
            closed[name] = Counts()
            self.guard.add_to(closed[name], name)
        if any(counts.spooled or counts.dropped for counts in closed.values()):
            spend(self._settings.state_dir, self.step.run_id, time.monotonic() - started)
        is_news = not self._is_python or seconds == BUDGET_SECONDS
        with self.guard():
            names = [watcher.name for watcher in WATCHERS if watcher.name in {*closed, *self._off}]
            self._report({name: closed.get(name) for name in names}, run, deadline, is_news=is_news)

    def _report(self, counts: dict[str, Counts | None], run: RunEnd | None, deadline: float, *, is_news: bool) -> None:
        if self._is_python and not any(counts.values()):
            return  # all signals are off
        summary = "; ".join(f"{name}: {count or 'off'}" for name, count in counts.items())
        bad = {name: count.reason for name, count in counts.items() if count and count.is_bad}
        if reasons := "; ".join(f"{name}: {reason}" for name, reason in bad.items()):
            # Of a run with many steps, only the first that has waited in vain warns.
            self._context.log.log(
                logging.WARNING if is_news else logging.DEBUG,
                "%s (%s); run `uv run floe doctor` to test the endpoints",
                summary,
                redact(reasons),
            )
        elif not self._is_python:  # Dagster stores each line, and a run may have hundreds of such steps
            self._context.log.info(summary)
        tags = {f"floe/{name}": str(count or "off") for name, count in counts.items()}
        if run:
            tags[ENDED_TAG] = self.step.run_id
        elif self._is_python and not (bad and is_news) and hold_counts(self._context, tags):
            return
        if not add_counts(
            self._context, tags, self._settings.state_dir, max(deadline, time.monotonic() + LOCK_SECONDS)
        ):
            self._context.log.warning("Another process holds a lock, so the run's tags floe/* may lack some counts.")
