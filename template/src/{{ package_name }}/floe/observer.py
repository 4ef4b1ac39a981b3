"""The observer of a dbt command, which passes each event to Dagster, lineage and tracing.

dbt's events are read once, in order. Each goes through `dbt/node_events.py` to the watchers, and to dagster-dbt's own
conversion, whose Dagster events get the metadata that the watchers know. An error in a watcher is logged once per
signal, and the run continues.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import orjson
from dagster_dbt import DbtCliInvocation, DbtCliResource
from dagster_dbt.errors import DagsterDbtCliRuntimeError

from .assets.repeated_run import earlier_events
from .dbt.artifacts import remove_old_folders
from .dbt.command import NOTHING_SELECTED, dbt_command, has_nodes
from .dbt.debug_log import DebugLog
from .dbt.failure_summary import summarize
from .dbt.file_lock import DatabaseLock
from .dbt.log_records import read_events
from .dbt.manifest_graph import is_executed, materialized
from .dbt.node_events import CommandFinished, CommandStarted, DbtEvent, EventTracker, NodeFinished, NodeStarted, Outcome
from .dbt.profile import describe_missing_connection
from .dbt.retry import (
    COMMANDS,
    Attempt,
    Repeat,
    Results,
    RetryStore,
    asked_for,
    failed_tests,
    held_back,
    merged,
    needs_whole_command,
    repeatable,
)
from .faults import SHARED, FaultGuard
from .logs import is_json
from .redact import ANSI_CODES, redact, redact_error
from .run_outcome import StepEnd, command_end
from .settings import Settings
from .step import Context, trace_environment
from .step_watch import StepWatch
from .watcher import DbtCommand, Record

# dbt reports errors in SQL, Jinja and YAML before it connects.
PARSE_ERROR = re.compile(r"\b(Compilation|Parsing) Error\b")


class Observer:
    """The observer of one dbt command for the watchers of its step; none of its methods raises an error."""

    def __init__(self, context: Context, settings: Settings, *, retries_tests: bool = False) -> None:
        self._context = context
        self._retries_tests = retries_tests
        self._settings = settings
        self._has_reached_nodes = False
        self._ended = False
        self._has_succeeded = False
        self._invocation_id = ""
        self._watch: StepWatch | None = None
        self._records: list[tuple[str, Record]] = []
        self._tracker = EventTracker()
        self._bad_ends: list[NodeFinished] = []
        self._metadata: dict[str, dict[str, Any]] = {}  # by unique id
        self._log: DebugLog | None = None
        self._command: DbtCommand | None = None
        self._lock: DatabaseLock | None = None
        self._guard = FaultGuard()
        self._call = 0
        self._asked: list[str] = []
        self._repeat: Repeat | None = None
        self.failed_tests: list[str] = []  # if nothing else has failed, in this attempt or an earlier one
        with self._guard():
            self._watch = StepWatch.of(context, settings, self._guard)
            self._guard = self._watch.guard
            self._call = self._watch.enter(self)

    def environment(self) -> dict[str, str]:
        """Return environment variables for dbt."""
        variables = trace_environment(self._watch.step) if self._watch else {}
        for watcher in self._watch.watchers if self._watch else ():
            with self._guard(watcher.name):
                variables.update(watcher.environment())
        return variables

    @property
    def has_retries(self) -> bool:
        """Return whether Dagster repeats the step after a failure."""
        return bool(self._watch and self._watch.step.has_retries)

    @property
    def last_target(self) -> Path | None:
        """Return the target folder of the step's previous command."""
        return self._watch.last_target if self._watch else None

    def repeat(self, args: Sequence[str], dbt: DbtCliResource) -> list[str] | None:
        """Return the arguments of `dbt retry` if an earlier attempt at the step has run the command `args`, or None."""
        with self._guard():
            self._asked = asked_for(args, dbt.profile, dbt.target)
            if self._watch and dbt_command(args) in COMMANDS:
                self._repeat = self._earlier(self._watch)
            if self._repeat:
                self._context.log.info("`dbt retry` builds only what failed or was skipped: %s", self._repeat)
                return self._repeat.arguments
        return None

    def _earlier(self, watch: StepWatch) -> Repeat | None:
        """Return the command of the same number in the attempt or run that is repeated, if it is stored and fits."""
        step, store = watch.step, watch.store
        is_new_run = step.attempt == 0
        if is_new_run and step.failed_run_id:
            earlier = RetryStore(self._settings.state_dir, step.failed_run_id, step.key).read(self._call)
        else:
            earlier = store.read(self._call) if step.attempt else None
        if earlier is None:
            return None
        is_other = earlier.asked != self._asked  # the asset may run other commands in a further attempt
        if is_other or (is_new_run and not has_nodes(self._context, repeatable(earlier.results))):
            self._context.log.info("The whole command is repeated, because it or the dbt project has changed.")
            return None
        try:
            if is_new_run:  # its own attempts may follow
                store.save(self._call, earlier)
            return store.prepare(self._call, earlier, with_tests=self._retries_tests or is_new_run)
        except OSError as error:
            self._context.log.warning("The whole command is repeated, because of the state folder: %s", error)
            return None

    def earlier_events(self) -> list[Any]:
        """Return the Dagster events of nodes that another run has built, and that are not built again."""
        with self._guard():
            if self._repeat and self._watch and self._watch.step.attempt == 0:
                return list(earlier_events(self._context, self._watch.step))
        return []

    def attach(self, invocation: DbtCliInvocation) -> None:
        """Watch `invocation`, starting with its first event."""
        with self._guard():
            if self._watch:
                self._watch.last_target = invocation.target_path
            watchers = self._watch.watchers if self._watch else []
            statements = any(watcher.wants_statements for watcher in watchers)
            self._log = log = DebugLog(invocation.target_path / "dbt.log", statements=statements)
            self._tracker = EventTracker(log.finished, self._guard.losses_of(SHARED))
            repeated = self._repeat.earlier.arguments if self._repeat else ()
            self._command = command = DbtCommand(invocation, log, repeated)
            for watcher in watchers:
                with self._guard(watcher.name):
                    self._records.append((watcher.name, watcher.attach(command)))

    def hold(self, lock: DatabaseLock | None) -> None:
        """Hold the lock of the database until the command ends."""
        self._lock = lock

    def handle(self, raw: Mapping[str, Any]) -> None:
        """Pass a raw event to the watchers."""
        with self._guard():
            self._record(self._tracker.feed(raw))

    def described(self, event: Any, raw: Mapping[str, Any]) -> Any:
        """Return Dagster's event of a raw event, with the metadata of the table that dbt has written."""
        with self._guard():
            if isinstance(event, dg.Output | dg.AssetMaterialization):
                metadata = self._metadata.pop(raw["data"]["node_info"]["unique_id"], {})
                return event.with_metadata({**event.metadata, **metadata}) if metadata else event
        return event

    def finish(self, error: BaseException | None) -> None:
        """End the command and its open nodes, because `error` was raised or, if None, because dbt has finished."""
        with self._guard():
            redact_error(error)
        self._end(command_end(error), is_of_dbt=isinstance(error, DagsterDbtCliRuntimeError))

    def stop(self, message: str) -> None:
        """End the command if it is open, because its events are no longer read; `message` gives the reason."""
        if self._log is None:
            self._context.log.warning("A dbt command has no lineage and no spans, because its events were not read.")
        self._end(StepEnd(outcome=Outcome.INTERRUPTED, message=message))

    def _end(self, end: StepEnd, *, is_of_dbt: bool = False) -> None:
        if self._ended:
            return
        self._ended = True
        if self._lock:
            self._lock.release()
        raised = end.message
        with self._guard():
            reason = raised and self._tracker.reason(raised, is_of_dbt=is_of_dbt)
            end = replace(end, message=reason and redact(ANSI_CODES.sub("", reason)))
        if self._command and end.outcome is not Outcome.INTERRUPTED and (raised or self._tracker.has_failed):
            with self._guard():
                skipped = _skipped(self._command, self._invocation_id)
                self._record(self._tracker.skip(skipped, at=datetime.now(UTC)))
        if end.outcome is not Outcome.INTERRUPTED:
            self._has_succeeded = end.outcome is Outcome.SUCCESS and not self._tracker.has_failed
            with self._guard():
                if self._repeat or not self._has_succeeded:
                    self._store()
        with self._guard():
            interrupted = end.outcome is Outcome.INTERRUPTED
            self._record(self._tracker.end(at=datetime.now(UTC), message=end.message, interrupted=interrupted))
        with self._guard("the log"):
            if self._command and self._tracker.has_failed and not is_json():
                sys.stdout.write(summarize(self._bad_ends, self._command.graph, self._command.invocation.project_dir))
                sys.stdout.flush()
        with self._guard("the log"):
            if end.outcome is Outcome.FAIL and self._may_lack_warehouse(end.message or ""):
                self._context.log.error(describe_missing_connection(self._settings))
        with self._guard():
            if self._log:
                self._log.close()
            if self._command:
                remove_old_folders(self._command.invocation.target_path)
        with self._guard():
            if self._watch:
                self._watch.leave(self, end, raised)

    def keep(self) -> None:
        """Store the command, which has succeeded, because the step has not."""
        if self._has_succeeded:
            self._store()

    def _store(self) -> None:
        """Store the results of the command for the next attempt at the step."""
        command, watch = self._command, self._watch
        if command is None or watch is None or dbt_command(command.arguments) not in COMMANDS:
            return
        # dbt's other exit codes are those of a command that was interrupted or has crashed: some results are missing.
        is_complete = command.invocation.process.poll() in {0, 1}
        after = _results(command, self._invocation_id) if is_complete else {}
        try:
            if after:
                before = self._repeat.earlier.results if self._repeat else None
                self._store_results(watch, command, merged(before, after) if before else after)
            elif self._repeat and not self._has_reached_nodes:
                watch.store.mark_unstarted(self._call)
        except OSError as error:
            self._context.log.warning("A further attempt will repeat the whole dbt command: %s", error)

    def _store_results(self, watch: StepWatch, command: DbtCommand, results: Results) -> None:
        if needs_whole_command(results):
            watch.store.forget(self._call)
            return
        waiting = set() if self._retries_tests else held_back(results, command.graph)
        if waiting >= repeatable(results):
            self.failed_tests = sorted(failed_tests(results))
        watch.store.save(
            self._call,
            Attempt(asked=self._asked, arguments=command.arguments, results=results, held_back=sorted(waiting)),
        )

    def _may_lack_warehouse(self, message: str) -> bool:
        """Return whether dbt may have failed to connect, which it does after parsing and before the first node."""
        is_other_error = PARSE_ERROR.search(message) or NOTHING_SELECTED in message
        return not self._has_reached_nodes and not is_other_error

    def _record(self, events: Iterator[DbtEvent]) -> None:
        for event in events:
            if isinstance(event, CommandStarted):
                self._invocation_id = event.invocation_id
                if self._log:
                    self._log.invocation_id = event.invocation_id
            self._has_reached_nodes |= isinstance(event, NodeStarted | NodeFinished)
            if isinstance(event, NodeFinished | CommandFinished) and event.message:
                redacted: DbtEvent = replace(event, message=redact(ANSI_CODES.sub("", event.message)))
            else:
                redacted = event
            if isinstance(redacted, NodeFinished) and redacted.outcome in {Outcome.FAIL, Outcome.SKIPPED}:
                self._bad_ends.append(redacted)
            for name, record in self._records:
                with self._guard(name):
                    metadata = record(redacted)
                    if metadata and isinstance(redacted, NodeFinished):
                        self._metadata.setdefault(redacted.unique_id, {}).update(metadata)


def watched(invocation: DbtCliInvocation, observer: Observer) -> Iterator[Any]:
    """Yield the Dagster events of a dbt command, as dagster-dbt converts them; first pass each event to `observer`."""
    error: BaseException | None = None
    observer.attach(invocation)
    try:
        yield from observer.earlier_events()
        for event in read_events(invocation):
            observer.handle(event.raw_event)
            if invocation.manifest:  # without a manifest there are no assets
                for dagster_event in event.to_default_asset_events(
                    manifest=invocation.manifest,
                    dagster_dbt_translator=invocation.dagster_dbt_translator,
                    context=invocation.context,
                    target_path=invocation.target_path,
                    project=invocation.project,
                ):
                    yield observer.described(dagster_event, event.raw_event)
        error = invocation.get_error()  # dagster-dbt does not raise it, because the command was started so
        observer.finish(error)
        if observer.failed_tests and invocation.raise_on_error:
            names = ", ".join(observer.failed_tests)
            raise dg.Failure(f"Tests failed in an earlier attempt and are not repeated: {names}", allow_retries=False)
    except DagsterDbtCliRuntimeError as raised:
        error = raised
        observer.finish(error)
        if observer.failed_tests and observer.has_retries:
            raise dg.Failure(str(raised), allow_retries=False) from raised
        raise
    except BaseException as raised:
        error = raised
        raise
    finally:
        observer.finish(error)


def _results(command: DbtCommand, invocation_id: str) -> dict[str, Any]:
    """Return the content of the command's `run_results.json`; nothing if dbt has not written it."""
    file = command.invocation.target_path / "run_results.json"
    artifact: dict[str, Any] = orjson.loads(file.read_bytes()) if file.is_file() else {}
    # The file may be that of an earlier command, which `dbt retry` reads.
    return artifact if artifact and artifact["metadata"]["invocation_id"] == invocation_id else {}


def _skipped(command: DbtCommand, invocation_id: str) -> dict[str, tuple[str, str | None]]:
    """Return the skipped nodes in the command's results: unique id -> resource type and dbt's message."""
    results = _results(command, invocation_id).get("results", ())
    messages = {result["unique_id"]: result.get("message") for result in results if result["status"] == "skipped"}
    nodes = map(command.graph.node, messages)
    return {
        node["unique_id"]: (node["resource_type"], messages[node["unique_id"]])
        for node in nodes
        if is_executed(node["resource_type"], materialized(node))
    }
