"""Each event of a dbt command -> Dagster's events, and what the watchers, lineage and tracing, are told.

dbt's events are read once, in order. Each goes to dagster-dbt's own conversion, whose Dagster events are yielded
unchanged, and besides through `events.py` to the watchers. A fault in those is logged once and costs nothing else.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import dagster as dg
import orjson
from dagster_dbt import DbtCliInvocation

from .dbt_lines import read_events
from .debug_log import DebugLog
from .delivery import BUDGET_SECONDS, Counts
from .events import CommandFinished, Life, Lives, NodeFinished, Outcome
from .graph import Graph, materialized
from .lineage.watcher import LineageWatcher
from .logs import COLORS, enter_step
from .profile import hint
from .redact import redact, redact_error
from .settings import Settings
from .step import has_failed_step, is_last_step, will_be_retried
from .target import TARGET
from .tracing.watcher import TraceWatcher, with_sql
from .warehouse import DUCKDB, Connection, Warehouse, other_warehouse
from .watcher import DbtCommand, Ending, Watcher

logger = logging.getLogger(__name__)

INTERRUPTS = (GeneratorExit, KeyboardInterrupt, dg.DagsterExecutionInterruptedError)


class Observer:
    """Tells the watchers what dbt says during one step; none of its methods raises."""

    def __init__(self, context: dg.AssetExecutionContext, settings: Settings) -> None:
        self._context = context
        self._settings = settings
        self._warned = False
        self._built = False
        self._watchers: list[Watcher] = []
        self._lives = Lives()
        self._log: DebugLog | None = None
        self._skipped: Callable[[], Mapping[str, str]] | None = None
        with self._guard():
            enter_step(context)
        lineage: LineageWatcher | None = None
        with self._guard():
            lineage = LineageWatcher(context, settings)
            self._watchers.append(lineage)
        with self._guard():
            self._watchers.append(TraceWatcher(context, settings, lambda: lineage.counts if lineage else None))

    def environment(self) -> dict[str, str]:
        """Return the variables that dbt is to get."""
        variables: dict[str, str] = {}
        self._tell(lambda watcher: variables.update(watcher.environment()))
        return variables

    def attach(self, invocation: DbtCliInvocation) -> None:
        """Watch `invocation` from its first event on."""
        with self._guard():
            self._log = log = DebugLog(invocation.target_path / "dbt.log", statements=with_sql())
            self._lives = Lives(log.finished)
            graph = cache(lambda: Graph.read(invocation.target_path, invocation.manifest))
            self._skipped = lambda: _skipped(invocation.target_path / "run_results.json", graph())
            command = DbtCommand(
                invocation=invocation, graph=graph, warehouse=cache(lambda: _warehouse(graph(), invocation)), log=log
            )
            self._tell(lambda watcher: watcher.attach(command))

    def see(self, raw: Mapping[str, Any]) -> None:
        """Take note of a raw event."""
        with self._guard():
            self._record(self._lives.feed(raw))

    def finish(self, error: BaseException | None) -> None:
        """End what is open and send what is left, within `BUDGET_SECONDS`."""
        with self._guard():
            redact_error(error)
        message = _message(error)
        interrupted = isinstance(error, INTERRUPTS)
        outcome = Outcome.INTERRUPTED if interrupted else Outcome.SUCCESS if error is None else Outcome.FAIL
        if outcome is Outcome.FAIL and self._skipped:
            with self._guard():
                self._record(self._lives.skip(self._skipped(), at=datetime.now(UTC)))
        with self._guard():
            self._record(self._lives.end(at=datetime.now(UTC), message=message, interrupted=interrupted))
        with self._guard():
            ending = Ending(outcome=outcome, message=message, run_outcome=self._run_outcome(outcome, error))
            self._tell(lambda watcher: watcher.finish(ending))
        with self._guard():
            if outcome is Outcome.FAIL and not self._built:
                self._context.log.error(hint(self._settings))
        with self._guard():
            if self._log:
                self._log.close()
            self._close()

    def _run_outcome(self, outcome: Outcome, error: BaseException | None) -> Outcome | None:
        if not is_last_step(self._context) or will_be_retried(self._context, error):
            return None
        return Outcome.FAIL if outcome is Outcome.SUCCESS and has_failed_step(self._context) else outcome

    def _record(self, lives: Iterator[Life]) -> None:
        for life in lives:
            self._built |= isinstance(life, NodeFinished) and life.outcome in {Outcome.SUCCESS, Outcome.WARN}
            if isinstance(life, NodeFinished | CommandFinished) and life.message:
                shown: Life = replace(life, message=redact(life.message))
            else:
                shown = life
            for watcher in self._watchers:
                with self._guard():
                    watcher.record(shown)

    def _tell(self, what: Callable[[Watcher], None]) -> None:
        for watcher in self._watchers:
            with self._guard():
                what(watcher)

    def _close(self) -> None:
        deadline = time.monotonic() + BUDGET_SECONDS
        became: dict[str, Counts | None] = {}
        self._tell(lambda watcher: became.update({watcher.name: watcher.close(deadline)}))
        said = "; ".join(f"{name}: {counts or 'off'}" for name, counts in became.items())
        if why := "; ".join(f"{name}: {counts.reason}" for name, counts in became.items() if counts and counts.is_bad):
            self._context.log.warning("%s (%s); `uv run floe doctor` tries the endpoints", said, redact(why))
        else:
            self._context.log.info(said)
        self._context.instance.add_run_tags(
            self._context.run_id, {f"floe/{name}": str(counts or "off") for name, counts in became.items()}
        )

    @contextmanager
    def _guard(self) -> Iterator[None]:
        """Keep a fault of ours from the run: it is logged once, with its traceback."""
        try:
            yield
        except Exception:
            if "FLOE_RAISE" in os.environ:  # set by tests
                raise
            if not self._warned:
                logger.warning("a fault in lineage or tracing; the run goes on without", exc_info=True)
            self._warned = True


def watched(invocation: DbtCliInvocation, observer: Observer) -> Iterator[Any]:
    """Yield the Dagster events of a dbt command, as dagster-dbt converts them; tell `observer` of each event before."""
    error: BaseException | None = None
    observer.attach(invocation)
    try:
        for event in read_events(invocation):
            observer.see(event.raw_event)
            yield from event.to_default_asset_events(
                manifest=invocation.manifest,
                dagster_dbt_translator=invocation.dagster_dbt_translator,
                context=invocation.context,
                target_path=invocation.target_path,
                project=invocation.project,
            )
    except BaseException as raised:
        error = raised
        raise
    finally:
        observer.finish(error)


def _skipped(run_results: Path, graph: Graph) -> dict[str, str]:
    """Return the nodes that dbt's results call skipped, without ephemeral ones: unique id -> resource type."""
    if not run_results.is_file():
        return {}
    results = orjson.loads(run_results.read_bytes())["results"]
    nodes = [graph.node(result["unique_id"]) for result in results if result["status"] == "skipped"]
    return {node["unique_id"]: node["resource_type"] for node in nodes if materialized(node) != "ephemeral"}


def _warehouse(graph: Graph, invocation: DbtCliInvocation) -> tuple[Warehouse, Connection]:
    adapter = graph.metadata["adapter_type"]
    known = {warehouse.adapter: warehouse for warehouse in (DUCKDB, TARGET)}
    warehouse = known.get(adapter) or other_warehouse(adapter)
    credentials = invocation.adapter.config.credentials if invocation.adapter else None
    return warehouse, {key: getattr(credentials, key, None) for key in warehouse.connection_keys}


def _message(error: BaseException | None) -> str | None:
    if error is None:
        return None
    return redact(COLORS.sub("", str(error)).strip()) or type(error).__name__
