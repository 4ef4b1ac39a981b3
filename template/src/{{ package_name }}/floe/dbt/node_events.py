"""dbt's raw events as typed events: the start and end of a command and of each node.

In: dbt's structured log events as dictionaries, in order. These are the events of dbt's output, in the form of dbt Core
and Fusion (https://docs.getdbt.com/reference/events-logging#structured-logging), and the `NodeFinished` events of its
debug log, which contain more. Out: at most one start and exactly one end each, with dbt's own times in UTC.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from functools import partial
from typing import Any
from uuid import uuid4

from ..faults import Losses, detail
from .batches import Batches
from .failures import Failures
from .hooks import FailedHooks
from .manifest_graph import HOOK, is_executed
from .raw_events import RESULTS, SKIPS, STARTS, Raw, executed, parse_time, status_of, time_of


class Outcome(StrEnum):
    """The outcome of a node or of a command."""

    SUCCESS = "success"
    WARN = "warn"
    FAIL = "fail"
    SKIPPED = "skipped"
    INTERRUPTED = "interrupted"


# The final statuses of a node in dbt 1.11 and Fusion. All others, also unknown ones, count as failures.
OUTCOMES = {
    "success": Outcome.SUCCESS,
    "pass": Outcome.SUCCESS,
    "no-op": Outcome.SUCCESS,
    "reused": Outcome.SUCCESS,
    "warn": Outcome.WARN,
    "skipped": Outcome.SKIPPED,
}
# A unique id and a test for the wanted `NodeFinished` -> the node's `NodeFinished` events in the debug log, which may
# include the wanted one.
Details = Callable[[str, Callable[[Raw], bool]], Sequence[Raw]]


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandStarted:
    """The start of a dbt command, marked by dbt's first event."""

    at: datetime
    invocation_id: str
    dbt_version: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandFinished:
    """The end of a dbt command; `message` is the reason if it did not succeed."""

    at: datetime
    started: CommandStarted
    outcome: Outcome
    message: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStarted:
    """The start of a node's execution; a hook is a node of type `operation`."""

    at: datetime
    unique_id: str
    resource_type: str
    invocation_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFinished:
    """The end of a node's execution, which never began if `started` is None.

    `executed` is the time that run_results.json gives for the execution.
    """

    at: datetime
    unique_id: str
    resource_type: str
    invocation_id: str
    outcome: Outcome
    status: str
    started: NodeStarted | None = None
    executed: tuple[datetime, datetime] | None = None
    message: str | None = None
    failures: int | None = None
    response: Mapping[str, Any] = field(default_factory=dict)


DbtEvent = CommandStarted | CommandFinished | NodeStarted | NodeFinished


class EventTracker:
    """A tracker of one dbt command: call `feed` for each raw event, then `end`."""

    def __init__(self, details: Details = lambda _unique_id, _is_wanted: (), losses: Losses | None = None) -> None:
        """Use `details` to look up a node's `NodeFinished` events in the debug log, and `losses` to count errors."""
        self._details = details
        self._losses = losses or Losses("lineage or tracing")
        self._command: CommandStarted | None = None
        self._open: dict[str, NodeStarted] = {}
        self._finished: set[str] = set()
        self._batches = Batches()
        self._failed_hooks = FailedHooks()
        self._failures = Failures(self._failed_hooks)
        self._has_executed = False

    @property
    def has_failed(self) -> bool:
        """Return whether a node or a hook has failed."""
        return bool(self._failures)

    def feed(self, raw: Raw) -> Iterator[DbtEvent]:
        """Yield the typed events that follow from `raw`: usually none, one start, or one end."""
        info, data = raw["info"], raw.get("data") or {}
        if self._command is None:
            self._command = _command_started(info, data)
            yield self._command
        node = data.get("node_info") or {}
        unique_id, kind = node.get("unique_id"), node.get("resource_type")
        if not unique_id or not (kind == HOOK or is_executed(kind, node.get("materialized"))):
            return
        name = info["name"]
        if name == "RunResultError":
            yield from self._failed_hooks.explain(unique_id, data["msg"])
        if unique_id in self._finished:
            return
        with self._losses.of(unique_id):
            detail(self._batches.record, name, data)
        if name in STARTS and unique_id not in self._open:
            with self._losses.of(unique_id):
                self._open[unique_id] = started = _node_started(info, node, self._command.invocation_id)
            self._has_executed |= kind != HOOK
            yield started
        elif name in RESULTS or name in SKIPS or (name == "NodeFinished" and not self._is_batch(node)):
            with self._losses.of(unique_id):
                event = self._end(raw, self._command)
            if kind == HOOK and event.outcome is Outcome.FAIL:
                yield from self._failed_hooks.take(event)
            else:
                yield event

    def skip(self, nodes: Mapping[str, tuple[str, str | None]], *, at: datetime) -> Iterator[DbtEvent]:
        """Yield an end for each of `nodes` (unique id -> resource type and message) that no event has mentioned.

        The event with which dbt skips a node downstream of a failed ephemeral model does not name the node (Z034).
        """
        for unique_id, (resource_type, message) in nodes.items():
            if self._command and unique_id not in self._finished and unique_id not in self._open:
                self._finished.add(unique_id)
                yield NodeFinished(
                    at=at,
                    unique_id=unique_id,
                    resource_type=resource_type,
                    invocation_id=self._command.invocation_id,
                    outcome=Outcome.SKIPPED,
                    status=Outcome.SKIPPED.value,
                    message=message,
                )

    def reason(self, message: str, *, is_of_dbt: bool) -> str:
        """Return why the command failed: the first failed node or hook if the error is dbt's, else `message`."""
        if is_of_dbt and self._failures:
            return self._failures.reason()
        return self._failed_hooks.reason(message)

    def end(self, *, at: datetime, message: str | None = None, interrupted: bool = False) -> Iterator[DbtEvent]:
        """Yield an end for each open node and for the command; `message` is the reason if the command failed."""
        bad = Outcome.INTERRUPTED if interrupted else Outcome.FAIL
        command = self._command or CommandStarted(at=at, invocation_id=str(uuid4()))
        if self._command is None:
            yield command
        yield from self._failed_hooks.unexplained()
        early = "dbt exited before this node finished"
        early = f"{early}: {message}" if message and self._failures else message or early
        for started in list(self._open.values()):
            del self._open[started.unique_id]
            stopped = NodeFinished(
                at=at,
                unique_id=started.unique_id,
                resource_type=started.resource_type,
                invocation_id=started.invocation_id,
                outcome=bad,
                status=bad.value,
                started=started,
                message=early,
            )
            self._failures.add(stopped)
            yield stopped
        if message is None and self._failures:  # `raise_on_error` is off
            message = self._failures.reason()
        outcome = Outcome.SUCCESS if message is None else bad
        reason = None if message is None else self._failed_hooks.reason(message)
        yield CommandFinished(at=at, started=command, outcome=outcome, message=reason)

    def _end(self, raw: Raw, command: CommandStarted) -> NodeFinished:
        info, data = raw["info"], raw["data"]
        node = data["node_info"]
        unique_id = node["unique_id"]
        finished: Sequence[Raw] = ()
        if info["name"] in RESULTS and node["resource_type"] != HOOK:
            finished = detail(self._details, unique_id, partial(_is_same_end, raw)) or ()
        own = next((logged for logged in finished if _is_same_end(raw, logged)), None)
        started = self._open.get(unique_id)
        ending = own and detail(_node_finished, own["info"], own["data"], started, command.invocation_id)
        ending = ending or _node_finished(info, data, started, command.invocation_id)
        if ending.outcome is Outcome.FAIL and (failure := detail(self._batches.failure, unique_id, finished)):
            ending = replace(ending, message=failure)
        if info["name"] in SKIPS:  # this event has no status if a hook is the cause
            reason = ending.message if self._has_executed else self._failed_hooks.skip_reason()
            ending = replace(ending, outcome=Outcome.SKIPPED, status=Outcome.SKIPPED.value, message=reason)
        # Not earlier: a node whose end cannot be read stays open until another of its events or the end of the command.
        self._open.pop(unique_id, None)
        self._finished.add(unique_id)
        if ending.outcome is Outcome.FAIL and ending.resource_type != HOOK:
            self._failures.add(ending)
        return ending

    def _is_batch(self, node: Raw) -> bool:
        started = self._open.get(node["unique_id"])
        if started is None or node["unique_id"] not in self._batches:
            return False
        return started.at != time_of(node, "node_started_at")


def _is_same_end(raw: Raw, finished: Raw) -> bool:
    """Return whether `finished`, from the debug log, reports the same end as `raw` rather than a batch's end."""
    return bool(detail(_agree, raw["data"], finished["data"]))


def _agree(printed: Raw, logged: Raw) -> bool:
    start = printed["node_info"].get("node_started_at")  # blank for a unit test
    if start and start != logged["node_info"].get("node_started_at"):
        return False
    return OUTCOMES.get(status_of(printed), Outcome.FAIL) is OUTCOMES.get(status_of(logged), Outcome.FAIL)


def _command_started(info: Raw, data: Raw) -> CommandStarted:
    version = data.get("version")
    return CommandStarted(
        at=parse_time(info["ts"]),
        invocation_id=info["invocation_id"],
        dbt_version=version.lstrip("=") if isinstance(version, str) else None,
    )


def _node_started(info: Raw, node: Raw, invocation_id: str) -> NodeStarted:
    at = detail(time_of, node, "node_started_at")
    return NodeStarted(
        at=at or parse_time(info["ts"]),
        unique_id=node["unique_id"],
        resource_type=node["resource_type"],
        invocation_id=invocation_id,
    )


def _node_finished(info: Raw, data: Raw, started: NodeStarted | None, invocation_id: str) -> NodeFinished:
    node, result, status = data["node_info"], data.get("run_result") or {}, status_of(data)
    failures = result.get("num_failures") if result else data.get("num_failures")
    at = detail(time_of, node, "node_finished_at")
    return NodeFinished(
        at=at or parse_time(info["ts"]),
        unique_id=node["unique_id"],
        resource_type=node["resource_type"],
        invocation_id=invocation_id,
        outcome=OUTCOMES.get(status, Outcome.FAIL),
        status=status,
        started=started,
        executed=detail(executed, result),
        message=result.get("message") or None,
        failures=failures if node["resource_type"] in {"test", "unit_test"} else None,
        response=result.get("adapter_response") or {},
    )
