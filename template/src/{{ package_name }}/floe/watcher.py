"""What watches a dbt command: lineage and tracing; a third watcher is one class and one line in `observer.py`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from dagster_dbt import DbtCliInvocation

from .debug_log import DebugLog
from .delivery import Counts
from .events import Life, Outcome
from .graph import Graph
from .warehouse import Connection, Warehouse


@dataclass(frozen=True, slots=True, kw_only=True)
class DbtCommand:
    """A dbt command that has just been started.

    Attributes:
        invocation: dagster-dbt's handle of it.
        graph: The run's own manifest; it is there once a node has started.
        warehouse: Where its output lies; likewise.
        log: dbt's debug log.
    """

    invocation: DbtCliInvocation
    graph: Callable[[], Graph]
    warehouse: Callable[[], tuple[Warehouse, Connection]]
    log: DebugLog


def command_line(invocation: DbtCliInvocation) -> list[str]:
    """Return the arguments of a dbt command, from the program's name on."""
    args = invocation.process.args
    return [str(argument) for argument in args] if isinstance(args, list) else []


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a step's dbt command ended.

    Attributes:
        outcome: Of the command.
        message: What dbt, or Dagster, says of a bad one.
        run_outcome: Of the whole Dagster run, if no other step and no other attempt is left of it.
    """

    outcome: Outcome
    message: str | None
    run_outcome: Outcome | None


class Watcher(Protocol):
    """Turns what dbt says into what is sent. What it raises is logged once, and costs the run nothing."""

    @property
    def name(self) -> str:
        """Return what the run's tag `floe/<name>` is called."""

    def environment(self) -> Mapping[str, str]:
        """Return the variables that dbt is to get."""

    def attach(self, command: DbtCommand) -> None:
        """Take the command, before its first event."""

    def record(self, life: Life) -> None:
        """Take note of what happened."""

    def finish(self, ending: Ending) -> None:
        """End what is open."""

    def close(self, deadline: float) -> Counts | None:
        """Send what is left until `deadline` of `time.monotonic`; say what became of all, nothing if it is off."""
