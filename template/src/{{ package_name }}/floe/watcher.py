"""The interface of watchers, such as lineage and tracing, and the dbt command that they watch.

Another watcher takes one class and one line in `step_watch.py`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from dagster_dbt import DbtCliInvocation

from .assets.catalog import StepAssets
from .assets.results import Result
from .dbt.debug_log import DebugLog
from .dbt.deferral import Deferral
from .dbt.manifest_graph import Graph
from .dbt.node_events import DbtEvent, Outcome
from .delivery.counts import Counts
from .run_outcome import RunEnd
from .settings import Settings
from .step import Step
from .target import TARGET
from .warehouse import DUCKDB, Connection, Warehouse, other_warehouse


class DbtCommand:
    """A dbt command that has been started; its properties are read on first use.

    Attributes:
        invocation: dagster-dbt's handle for the command.
        log: dbt's debug log.
    """

    def __init__(self, invocation: DbtCliInvocation, log: DebugLog, repeated: Sequence[str] = ()) -> None:
        """Watch an invocation; if it repeats an earlier one, `repeated` is the command line of that one."""
        self.invocation = invocation
        self.log = log
        self._repeated = repeated

    @cached_property
    def arguments(self) -> list[str]:
        """Return the command line, starting with the program's name; for a repeated command, the first one."""
        if self._repeated:
            return list(self._repeated)
        args = self.invocation.process.args
        return [str(argument) for argument in args] if isinstance(args, list) else []

    @cached_property
    def deferral(self) -> Deferral | None:
        """Return the run that the command defers to, if it does."""
        return Deferral.of(self.arguments, self.invocation.project_dir)

    @cached_property
    def graph(self) -> Graph:
        """Return the graph of the command's own manifest, which exists once a node has started."""
        return Graph.read(self.invocation.target_path, self.invocation.manifest, self.deferral)

    @cached_property
    def warehouse(self) -> Warehouse:
        """Return the kind of warehouse that the command uses."""
        adapter = self.graph.metadata["adapter_type"]
        known = {warehouse.adapter: warehouse for warehouse in (DUCKDB, TARGET)}
        return known.get(adapter) or other_warehouse(adapter)

    @cached_property
    def connection(self) -> Connection:
        """Return the fields of the connection that identify the warehouse."""
        credentials = self.invocation.adapter.config.credentials if self.invocation.adapter else None
        return {key: getattr(credentials, key, None) for key in self.warehouse.connection_keys}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """The end of an attempt at a step.

    Attributes:
        outcome: Outcome of the attempt.
        message: Reason if it did not succeed, in dbt's or Dagster's words.
        error_type: Class of the exception, if it failed with one.
        run: End of the whole Dagster run, if no other watched step and no other attempt is left in it.
        results: What the step's own code has materialized and checked, in order.
    """

    outcome: Outcome
    message: str | None
    error_type: str | None = None
    run: RunEnd | None = None
    results: Sequence[Result] = ()


# Makes the step's span current while its code runs.
Scope = Callable[[], AbstractContextManager[Any]]
# An event -> entries of Dagster's metadata for the table that a node has written, if the watcher knows any.
Record = Callable[[DbtEvent], Mapping[str, Any] | None]


class Watcher(Protocol):
    """A watcher turns the events of a step into the items of one signal. Its errors never fail the run.

    Attributes:
        name: Name of the signal; the run's tag `floe/<name>` has the counts of its items.
        wants_statements: Whether it needs dbt's SQL statements.
    """

    name: str
    wants_statements: bool

    @classmethod
    def open(cls, step: Step, settings: Settings, log: logging.Logger, /) -> Watcher | None:
        """Return the watcher of a step, or None if its signal is off; `log` is the run's log."""

    def environment(self) -> Mapping[str, str]:
        """Return environment variables for dbt."""

    def begin(self, assets: StepAssets, /) -> Scope | None:
        """Watch the step's own code from before its start; return what its code is to run in, if anything."""

    def attach(self, command: DbtCommand, /) -> Record:
        """Watch a command from before its first event; return the function that receives its events."""

    def finish(self, ending: Ending) -> None:
        """End everything of the step that is still open."""

    def close(self, deadline: float, closed: Mapping[str, Counts], /) -> Counts | None:
        """Send the remaining items until `deadline` of `time.monotonic`; return the counts of all items.

        None means that the signal is off, and that the watcher has only recorded what later runs need.

        `closed` has the counts of the watchers that were closed before, by name.
        """
