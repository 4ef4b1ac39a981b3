"""dbt's raw events -> the life of the command and of each node.

In: dbt's structured log events as dictionaries, in order: those of dbt's output, as dbt Core and Fusion shape them
(https://docs.getdbt.com/reference/events-logging#structured-logging), and `NodeFinished` of its debug log, which
knows more. Out: at most one start and exactly one end for each, with dbt's own times in UTC.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any
from uuid import uuid4


class Outcome(StrEnum):
    """How a node, or the command, ended."""

    SUCCESS = "success"
    WARN = "warn"
    FAIL = "fail"
    SKIPPED = "skipped"
    INTERRUPTED = "interrupted"


# Each status that dbt 1.11 and Fusion give a node at its end; an unknown one counts as a failure.
OUTCOMES = {
    "success": Outcome.SUCCESS,
    "pass": Outcome.SUCCESS,
    "no-op": Outcome.SUCCESS,
    "reused": Outcome.SUCCESS,
    "warn": Outcome.WARN,
    "skipped": Outcome.SKIPPED,
}
# Events that end a node, with dbt Core's names; Fusion has NodeFinished alone.
RESULTS = {
    "LogFreshnessResult",
    "LogFunctionResult",
    "LogModelResult",
    "LogNodeNoOpResult",
    "LogSeedResult",
    "LogSnapshotResult",
    "LogTestResult",
}
SKIPS = {"SkippingDetails", "LogSkipBecauseError"}
STARTS = {"LogStartLine", "NodeStart"}
# What dbt runs; an exposure, a metric or a hook is no node of these events.
EXECUTED = {"function", "model", "seed", "snapshot", "source", "test", "unit_test"}


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandStarted:
    """dbt said its first word."""

    at: datetime
    invocation_id: str
    dbt_version: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandFinished:
    """dbt has ended; `message` says why if not well."""

    at: datetime
    started: CommandStarted
    outcome: Outcome
    message: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStarted:
    """A node's execution began."""

    at: datetime
    unique_id: str
    resource_type: str
    invocation_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFinished:
    """A node's execution ended, or, without `started`, never began; `executed` is its time in run_results.json."""

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


Life = CommandStarted | CommandFinished | NodeStarted | NodeFinished


class Lives:
    """Follow one dbt command; feed it each raw event, then end it."""

    def __init__(self, details: Callable[[str], Mapping[str, Any] | None] = lambda _: None) -> None:
        """Take `details`: unique id -> the node's `NodeFinished` of the debug log, if there is one."""
        self._details = details
        self._command: CommandStarted | None = None
        self._open: dict[str, NodeStarted] = {}
        self._finished: set[str] = set()
        self._failures = 0

    def feed(self, raw: Mapping[str, Any]) -> Iterator[Life]:
        """Yield what `raw` tells: usually nothing, a start, or an end."""
        info, data = raw["info"], raw.get("data") or {}
        if self._command is None:
            self._command = _command_started(info, data)
            yield self._command
        node = data.get("node_info") or {}
        unique_id = node.get("unique_id")
        if not unique_id or unique_id in self._finished or not _is_executed(node):
            return
        name = info["name"]
        if name in STARTS and unique_id not in self._open:
            self._open[unique_id] = started = _node_started(info, node, self._command.invocation_id)
            yield started
        elif name in RESULTS:
            yield self._end(self._details(unique_id) or raw, self._command)
        elif name in SKIPS or name == "NodeFinished":
            yield self._end(raw, self._command)

    def skip(self, nodes: Mapping[str, str], *, at: datetime) -> Iterator[Life]:
        """Yield an end for each of `nodes`, unique id -> resource type, that no event has told of.

        dbt skips a node below a failed ephemeral model with an event that does not name it (Z034).
        """
        for unique_id, resource_type in nodes.items():
            if self._command and unique_id not in self._finished and unique_id not in self._open:
                self._finished.add(unique_id)
                yield NodeFinished(
                    at=at,
                    unique_id=unique_id,
                    resource_type=resource_type,
                    invocation_id=self._command.invocation_id,
                    outcome=Outcome.SKIPPED,
                    status=Outcome.SKIPPED.value,
                )

    def end(self, *, at: datetime, message: str | None = None, interrupted: bool = False) -> Iterator[Life]:
        """Yield an end for each node still open and for the command; `message` says why it went wrong, if it did."""
        bad = Outcome.INTERRUPTED if interrupted else Outcome.FAIL
        command = self._command or CommandStarted(at=at, invocation_id=str(uuid4()))
        if self._command is None:
            yield command
        for started in list(self._open.values()):
            del self._open[started.unique_id]
            yield NodeFinished(
                at=at,
                unique_id=started.unique_id,
                resource_type=started.resource_type,
                invocation_id=started.invocation_id,
                outcome=bad,
                status=bad.value,
                started=started,
                message=message or "dbt ended before this node did",
            )
            self._failures += 1
        if message is None and self._failures:  # dagster-dbt was told not to raise
            message = f"{self._failures} of dbt's nodes failed"
        outcome = Outcome.SUCCESS if message is None else bad
        yield CommandFinished(at=at, started=command, outcome=outcome, message=message)

    def _end(self, raw: Mapping[str, Any], command: CommandStarted) -> NodeFinished:
        data = raw["data"]
        unique_id = data["node_info"]["unique_id"]
        life = _node_finished(raw["info"], data, self._open.get(unique_id), command.invocation_id)
        # Only now: a node whose end cannot be read stays open, until another word of it or the end of all.
        self._open.pop(unique_id, None)
        self._finished.add(unique_id)
        self._failures += life.outcome is Outcome.FAIL
        return life


def _is_executed(node: Mapping[str, Any]) -> bool:
    # An ephemeral model is text in others.
    return node.get("resource_type") in EXECUTED and node.get("materialized") != "ephemeral"


def _command_started(info: Mapping[str, Any], data: Mapping[str, Any]) -> CommandStarted:
    version = data.get("version")
    return CommandStarted(
        at=parse_time(info["ts"]),
        invocation_id=info["invocation_id"],
        dbt_version=version.lstrip("=") if isinstance(version, str) else None,
    )


def _node_started(info: Mapping[str, Any], node: Mapping[str, Any], invocation_id: str) -> NodeStarted:
    return NodeStarted(
        at=_time_of(node, "node_started_at") or parse_time(info["ts"]),
        unique_id=node["unique_id"],
        resource_type=node["resource_type"],
        invocation_id=invocation_id,
    )


def _node_finished(
    info: Mapping[str, Any], data: Mapping[str, Any], started: NodeStarted | None, invocation_id: str
) -> NodeFinished:
    node, result = data["node_info"], data.get("run_result") or {}
    # A unit test's node_status is the text "None", and a model's data.status is the engine's answer, such as "OK".
    statuses = (result.get("status"), node.get("node_status"), data.get("status"))
    status = next((text.lower() for text in statuses if text and text.lower() not in {"none", "started"}), "")
    failures = result.get("num_failures") if result else data.get("num_failures")
    return NodeFinished(
        at=_time_of(node, "node_finished_at") or parse_time(info["ts"]),
        unique_id=node["unique_id"],
        resource_type=node["resource_type"],
        invocation_id=invocation_id,
        outcome=OUTCOMES.get(status, Outcome.FAIL),
        status=status,
        started=started,
        executed=_executed(result),
        message=result.get("message") or None,
        failures=failures if node["resource_type"] in {"test", "unit_test"} else None,
        response=result.get("adapter_response") or {},
    )


def _executed(result: Mapping[str, Any]) -> tuple[datetime, datetime] | None:
    phases = [
        phase for phase in result.get("timing_info") or () if phase.get("started_at") and phase.get("completed_at")
    ]
    if not phases:
        return None
    return parse_time(phases[0]["started_at"]), parse_time(phases[-1]["completed_at"])


def _time_of(node: Mapping[str, Any], key: str) -> datetime | None:
    text = node.get(key)
    return parse_time(text) if text and text != "None" else None


def parse_time(text: str) -> datetime:
    """Return dbt's time in UTC; dbt writes node times without a zone and means UTC."""
    time = datetime.fromisoformat(text)
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
