"""The interface of a watcher, such as lineage and tracing.

A third watcher is one class and one line in `step_watch.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from dagster_dbt import DbtCliInvocation

from .dbt.debug_log import DebugLog
from .dbt.manifest_graph import Graph
from .dbt.node_events import DbtEvent, Outcome
from .delivery.sender import Counts
from .run_end import RunEnd
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
    """How an attempt at a step ended.

    Attributes:
        outcome: Outcome of the attempt.
        message: Reason of a bad one, in dbt's or Dagster's words.
        run: End of the whole Dagster run, if no other step with dbt and no other attempt is left of it.
    """

    outcome: Outcome
    message: str | None
    run: RunEnd | None


Record = Callable[[DbtEvent], None]


class Watcher(Protocol):
    """Turns what the dbt commands of a step say into what is sent. Its faults cost the run nothing."""

    @property
    def name(self) -> str:
        """Return the signal that faults of the watcher cost."""

    def environment(self) -> Mapping[str, str]:
        """Return the variables that dbt is to get."""

    def attach(self, command: DbtCommand) -> Record:
        """Take a command before its first event; return what takes note of its events."""

    def finish(self, ending: Ending) -> None:
        """End what is open of the step."""

    def close(self, deadline: float) -> Mapping[str, Counts | None]:
        """Send what is left until `deadline` of `time.monotonic`.

        Returns:
            What became of all, by signal as the run's tag `floe/<signal>` has it: no counts where the signal is off.
        """
