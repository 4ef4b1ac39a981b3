"""The watchers of a step, shared by its dbt commands until Dagster ends the attempt.

A command does not know whether another follows, and an asset may fail after its last one. So step and run end when
Dagster logs the end of the attempt. It does so in the step's process, under every executor, whatever the asset has
done, through the logger that assets know as `context.log`; a filter there sees the event before Dagster records it,
and a handler sees it afterwards.
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Protocol

import dagster as dg

from .dbt.node_events import Outcome
from .delivery.counts import Counts
from .delivery.run_tags import add_counts
from .delivery.sender import BUDGET_SECONDS
from .faults import FaultGuard
from .lineage.watcher import LineageWatcher
from .logs import enter_step
from .redact import redact
from .run_end import StepEnd, run_end, step_end
from .settings import Settings
from .step import Context, read_step
from .tracing.watcher import MetricsWatcher, TraceWatcher
from .watcher import Ending, Watcher

# In the order in which they are closed: the metrics count what became of the lineage events.
WATCHERS: tuple[type[Watcher], ...] = (LineageWatcher, TraceWatcher, MetricsWatcher)
ENDS = {dg.DagsterEventType.STEP_SUCCESS, dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.STEP_UP_FOR_RETRY}
UNREAD = "The asset ended without reading all events of this dbt command."
LOST = "The process ended before Dagster reported the end of the step."


class Command(Protocol):
    """A dbt command that is being observed."""

    def stop(self, message: str) -> None:
        """End it if it is open: nobody reads its events any more, for the reason that `message` gives."""


class StepWatch(logging.Handler):
    """The watchers of one attempt at a step, which end with it."""

    def __init__(self, context: Context, settings: Settings, guard: FaultGuard) -> None:
        """Open the watchers; `guard` keeps their faults from the run."""
        super().__init__()
        self._context = context
        self._settings = settings
        self.guard = guard
        self._commands: list[Command] = []
        self._ended = False
        self._reasons: dict[str, str] = {}
        self.last_target: Path | None = None  # dbt's target folder of the last command
        self.step = step = read_step(context)
        with guard("the log"):
            enter_step(step)
        self.watchers: list[Watcher] = []
        self._off: list[str] = []  # names of signals
        for kind in WATCHERS:
            with guard(kind.name):
                if watcher := kind.open(step, settings, context.log):
                    self.watchers.append(watcher)
                else:
                    self._off.append(kind.name)
        # A test without Dagster has a plain logger, and no end but that of its command.
        self._outlives_commands = isinstance(context.log, dg.DagsterLogManager)
        if self._outlives_commands:
            context.log.addFilter(self._before_recorded)
            context.log.addHandler(self)
            # Should a release of Dagster's log its events elsewhere, what is left still leaves. Not `atexit`, which
            # the processes of a forkserver skip.
            self._at_exit = Finalize(None, self._end_at_exit, exitpriority=100)

    @classmethod
    def of(cls, context: Context, settings: Settings, guard: FaultGuard) -> StepWatch:
        """Return the watch of the context's step, which its first dbt command has opened."""
        handlers: list[logging.Handler] = getattr(context.log, "handlers", [])
        watches = (handler for handler in handlers if isinstance(handler, cls))
        return next(watches, None) or cls(context, settings, guard)

    def enter(self, command: Command) -> None:
        """Take a command, before it is started."""
        self._commands.append(command)

    def leave(self, command: Command, end: StepEnd, raised: str | None) -> None:
        """Take the end of a command; `raised` is what its exception says, and `end` what dbt says beyond that."""
        self._commands.remove(command)
        if raised and end.message:
            self._reasons[raised] = end.message
        if not self._outlives_commands:
            self._end(end)

    def emit(self, record: logging.LogRecord) -> None:
        """End the attempt if `record` is its end; Dagster has recorded it."""
        event = getattr(record, "dagster_event", None)
        if event is not None and event.event_type in ENDS:
            with self.guard():
                self._end(step_end(event))

    def _before_recorded(self, record: logging.LogRecord) -> bool:
        # With its only step the run has ended as well, and executors that poll the event log let go of the process as
        # soon as they see it there. Of several steps, the order in the log decides which one ends the run.
        if self.step.is_whole_run:
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
        run = None
        with self.guard():
            run = run_end(self._context, self.step, end)
        for watcher in self.watchers:
            with self.guard(watcher.name):
                watcher.finish(Ending(outcome=end.outcome, message=end.message, run=run))
        self._close()

    def _close(self) -> None:
        deadline = time.monotonic() + BUDGET_SECONDS
        closed: dict[str, Counts] = {}
        for watcher in self.watchers:
            with self.guard(watcher.name):
                closed[watcher.name] = counts = watcher.close(deadline, closed)
                self.guard.add_to(counts, watcher.name)
        with self.guard():
            self._report({kind.name: closed.get(kind.name) for kind in WATCHERS if kind.name in {*closed, *self._off}})

    def _report(self, counts: dict[str, Counts | None]) -> None:
        summary = "; ".join(f"{name}: {count or 'off'}" for name, count in counts.items())
        bad = {name: count.reason for name, count in counts.items() if count and count.is_bad}
        if reasons := "; ".join(f"{name}: {reason}" for name, reason in bad.items()):
            self._context.log.warning("%s (%s); `uv run floe doctor` tries the endpoints", summary, redact(reasons))
        else:
            self._context.log.info(summary)
        tags = {f"floe/{name}": str(count or "off") for name, count in counts.items()}
        add_counts(self._context, tags, self._settings.state_dir)
