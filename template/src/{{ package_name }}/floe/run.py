"""The one seam: `observe` runs a dbt command for Dagster and watches it.

dbt's events are read once, in order. Each goes to dagster-dbt's own conversion, whose Dagster events are yielded
unchanged, and besides through `events.py` to lineage and spans. A fault in those is logged once and costs nothing else.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from typing import Any

import dagster as dg
from dagster_dbt import DbtCliInvocation, DbtCliResource
from dagster_dbt.core.dbt_event_iterator import DbtEventIterator
from opentelemetry.sdk.trace import ReadableSpan

from .debug_log import DebugLog
from .delivery import BUDGET_SECONDS, Delivery
from .endpoints import LineageItem, open_lineage, open_spans
from .events import Life, Lives, NodeFinished, NodeStarted, Outcome
from .graph import Graph, Node
from .kept_columns import Kept
from .lineage import Lineage
from .lineage_setup import claim_run, lineage_of, run_started_at, will_be_retried
from .logs import write_logs
from .settings import Settings, settings
from .tracing import Handoff, Tracing
from .tracing_setup import ends_run, resource_of, step_of

logger = logging.getLogger(__name__)

INTERRUPTS = (GeneratorExit, KeyboardInterrupt, dg.DagsterExecutionInterruptedError)


def observe(dbt: DbtCliResource, args: Sequence[str], context: dg.AssetExecutionContext) -> DbtEventIterator[Any]:
    """Run dbt with `args` for what Dagster selected.

    Args:
        dbt: The resource of that name.
        args: dbt's own, such as `["build"]`.
        context: The asset's.

    Returns:
        dagster-dbt's event iterator: yield from it, or from its `fetch_row_counts()` and the like.
    """
    observer = Observer(context, settings)
    try:
        with _environment(observer.environment()):
            invocation = dbt.cli(args, context=context)
    except BaseException as error:
        observer.finish(error)
        raise
    return DbtEventIterator(_watched(invocation, observer), invocation)


def _watched(invocation: DbtCliInvocation, observer: Observer) -> Iterator[Any]:
    error: BaseException | None = None
    observer.attach(invocation)
    try:
        for event in invocation.stream_raw_events():
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


class Observer:
    """Turns what dbt says during one step into lineage events and spans; none of its methods raises."""

    def __init__(self, context: dg.AssetExecutionContext, settings: Settings) -> None:
        self._context = context
        self._settings = settings
        self._warned = False
        self._lives = Lives()
        self._log: DebugLog | None = None
        self._graph: Callable[[], Graph] | None = None
        self._lineage: Lineage | None = None
        self._kept: Kept | None = None
        self._owns_run = False
        self._tracing: Tracing | None = None
        self._lineage_delivery: Delivery[LineageItem] | None = None
        self._span_delivery: Delivery[ReadableSpan] | None = None
        with self._guard():
            write_logs(context)
        with self._guard():
            self._lineage_delivery = open_lineage(settings)
        with self._guard():
            self._span_delivery = open_spans(settings)
        with self._guard():
            self._tracing = self._start_tracing()

    def environment(self) -> dict[str, str]:
        """Return the variables that dbt is to get."""
        return self._tracing.environment() if self._tracing else {}

    def attach(self, invocation: DbtCliInvocation) -> None:
        """Watch `invocation` from its first event on."""
        with self._guard():
            self._log = DebugLog(invocation.target_path / "dbt.log")
            self._lives = Lives(self._log.finished)
            self._graph = graph = cache(lambda: Graph.read(invocation.target_path, invocation.manifest))
            if self._lineage_delivery:
                self._lineage, self._kept = lineage_of(self._context, invocation, self._settings, graph)
                self._owns_run = claim_run(self._context)
                if self._owns_run and self._context.retry_number == 0:
                    self._lineage_delivery.put(self._lineage.run_started(run_started_at(self._context)))

    def see(self, raw: Mapping[str, Any]) -> None:
        """Take note of a raw event."""
        with self._guard():
            self._pass_on(self._lives.feed(raw))

    def finish(self, error: BaseException | None) -> None:
        """End what is open and send what is left, within `BUDGET_SECONDS`."""
        message = _message(error)
        interrupted = isinstance(error, INTERRUPTS)
        with self._guard():
            self._pass_on(self._lives.end(at=datetime.now(UTC), message=message, interrupted=interrupted))
        with self._guard():
            self._end_run(error, message, interrupted=interrupted)
        with self._guard():
            if self._tracing:
                outcome = Outcome.INTERRUPTED if interrupted else Outcome.FAIL if message else Outcome.SUCCESS
                self._tracing.end(outcome, message, ends_run=ends_run(self._context))
        with self._guard():
            self._close()

    def _start_tracing(self) -> Tracing:
        delivery = self._span_delivery
        return Tracing(step_of(self._context), resource_of(self._settings), Handoff(delivery.put) if delivery else None)

    def _end_run(self, error: BaseException | None, message: str | None, *, interrupted: bool) -> None:
        if not (self._owns_run and self._lineage and self._lineage_delivery) or will_be_retried(self._context, error):
            return
        outcome = Outcome.INTERRUPTED if interrupted else Outcome.SUCCESS if error is None else Outcome.FAIL
        self._lineage_delivery.put(self._lineage.run_finished(datetime.now(UTC), outcome, message))

    def _pass_on(self, lives: Iterator[Life]) -> None:
        for life in lives:
            with self._guard():
                if self._lineage and self._lineage_delivery:
                    for event in self._lineage.events(life):
                        self._lineage_delivery.put(event)
            with self._guard():
                if self._tracing:
                    self._tracing.record(life, self._node(life), {}, [])

    def _node(self, life: Life) -> Node:
        if self._graph and isinstance(life, NodeStarted | NodeFinished):
            return self._graph().node(life.unique_id)
        return {}

    def _close(self) -> None:
        if self._log:
            self._log.close()
        if self._kept:
            self._kept.save()
        deadline = time.monotonic() + BUDGET_SECONDS
        lineage = str(self._lineage_delivery.close(deadline)) if self._lineage_delivery else "off"
        traces = str(self._span_delivery.close(deadline)) if self._span_delivery else "off"
        self._context.log.info("lineage: %s; traces: %s", lineage, traces)
        self._context.instance.add_run_tags(self._context.run_id, {"floe/lineage": lineage, "floe/traces": traces})

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


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    # dagster-dbt hands its own environment to dbt and takes no other.
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _message(error: BaseException | None) -> str | None:
    if error is None:
        return None
    return str(error).strip() or type(error).__name__
