"""The interface of a watcher, such as lineage and tracing, and the dbt command that it is given.

A third watcher is one class and one line in `step_watch.py`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from dagster_dbt import DbtCliInvocation

from .dbt.debug_log import DebugLog
from .dbt.deferral import Deferral
from .dbt.manifest_graph import Graph
from .dbt.node_events import DbtEvent, Outcome
from .delivery.counts import Counts
from .run_end import RunEnd
from .settings import Settings
from .step import Step
from .target import TARGET
from .warehouse import DUCKDB, Connection, Warehouse, other_warehouse


class DbtCommand:
    """A dbt command that has been started; what it reads is read at the first use.

    Attributes:
        invocation: dagster-dbt's handle of it.
        log: dbt's debug log.
    """

    def __init__(self, invocation: DbtCliInvocation, log: DebugLog) -> None:
        self.invocation = invocation
        self.log = log

    @cached_property
    def arguments(self) -> list[str]:
        """Return the command line, from the program's name on."""
        args = self.invocation.process.args
        return [str(argument) for argument in args] if isinstance(args, list) else []

    @cached_property
    def graph(self) -> Graph:
        """Return the run's own manifest, which exists once a node has started."""
        deferral = Deferral.of(self.arguments, self.invocation.project_dir)
        return Graph.read(self.invocation.target_path, self.invocation.manifest, deferral)

    @cached_property
    def warehouse(self) -> Warehouse:
        """Return the kind of warehouse that the command builds in."""
        adapter = self.graph.metadata["adapter_type"]
        known = {warehouse.adapter: warehouse for warehouse in (DUCKDB, TARGET)}
        return known.get(adapter) or other_warehouse(adapter)

    @cached_property
    def connection(self) -> Connection:
        """Return the fields of the connection that name the warehouse."""
        credentials = self.invocation.adapter.config.credentials if self.invocation.adapter else None
        return {key: getattr(credentials, key, None) for key in self.warehouse.connection_keys}


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
    """Turns the events of a step's dbt commands into what one signal sends. Its faults cost the run nothing.

    Attributes:
        name: Name of the signal: the run's tag `floe/<name>` counts its items.
        wants_statements: Whether dbt's SQL statements are to be kept for it.
    """

    name: str
    wants_statements: bool

    @classmethod
    def open(cls, step: Step, settings: Settings, log: logging.Logger, /) -> Watcher | None:
        """Return the watcher of a step; nothing where its signal is off. `log` is the run's."""

    def environment(self) -> Mapping[str, str]:
        """Return the variables that dbt is to get."""

    def attach(self, command: DbtCommand, /) -> Record:
        """Take a command before its first event; return the function that takes each of its events."""

    def finish(self, ending: Ending) -> None:
        """End whatever of the step is open."""

    def close(self, deadline: float, closed: Mapping[str, Counts], /) -> Counts:
        """Send what is left until `deadline` of `time.monotonic`; return what became of everything.

        `closed` are the counts of the watchers that were closed before, by name.
        """
