"""The compute functions of a project's assets, asset checks and ops, wrapped so that their steps are observed.

In: the definitions of the code location. Out: the same definitions. Each op opens the watch of its step before the
owner's function runs, and makes the step's span current while it runs. The watch ends with the step (`step_watch.py`).
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial, wraps
from typing import Any

import dagster as dg

from ..assets.catalog import AssetCatalog
from ..faults import FaultGuard
from ..redact import redact
from ..settings import settings

logger = logging.getLogger(__name__)

# Dagster has no public way to replace the function of an op.
COMPUTE_FUNCTION = "_compute_fn"
WATCHED = "_floe_is_watched"

Function = Callable[..., Any]
# Makes the span of the current step current.
Scope = Callable[[], AbstractContextManager[None]]


def observe_steps(definitions: dg.Definitions) -> dg.Definitions:
    """Observe every step of a code location: assets, asset checks and ops in Python, and those that run dbt.

    Args:
        definitions: The definitions of the code location. Their ops are changed in place.

    Returns:
        The same definitions.
    """
    catalog = AssetCatalog(definitions)
    try:
        for op in _ops(definitions):
            _watch(op, catalog)
    except Exception as error:  # a release of Dagster may store the function elsewhere
        logger.warning(
            "Only steps that run dbt have lineage and traces, because Python functions could not be observed: %s",
            redact(str(error)),
            exc_info=True,
        )
    return definitions


def _ops(definitions: dg.Definitions) -> Iterator[dg.OpDefinition]:
    """Yield the ops of the definitions, some of them twice."""
    for asset in (*(definitions.assets or ()), *(definitions.asset_checks or ())):
        if getattr(asset, "is_executable", False):  # an asset spec has no function
            yield from _ops_of([getattr(asset, "node_def", None)])
    jobs: list[Any] = [*(definitions.jobs or ())]
    jobs += [schedule.job for schedule in definitions.schedules or () if getattr(schedule, "has_job", False)]
    for sensor in definitions.sensors or ():
        jobs += sensor.jobs if sensor.has_jobs else ()
    for job in jobs:
        yield from _ops_of([job.graph if isinstance(job, dg.JobDefinition) else job])


def _ops_of(nodes: Iterable[Any]) -> Iterator[dg.OpDefinition]:
    for node in nodes:
        if isinstance(node, dg.OpDefinition):
            yield node
        elif isinstance(node, dg.GraphDefinition):
            yield from _ops_of(node.node_defs)


def _watch(op: dg.OpDefinition, catalog: AssetCatalog) -> None:
    compute = getattr(op, COMPUTE_FUNCTION)
    function = getattr(compute, "decorated_fn", compute)
    if not hasattr(function, WATCHED):
        watched = _wrap(function, partial(_open, catalog, function))
        # Those of the owner's function, never of the wrapper: Dagster evaluates them in the owner's module.
        watched.__annotations__ = dict(getattr(function, "__annotations__", {}) if inspect.isroutine(function) else {})
        setattr(watched, WATCHED, True)
        setattr(op, COMPUTE_FUNCTION, watched if compute is function else compute._replace(decorated_fn=watched))


def _open(catalog: AssetCatalog, function: Function) -> Scope:
    """Open the watch of the current step and return its scope; without a step, as in a test, do nothing."""
    try:
        context = dg.OpExecutionContext.get()
    except dg.DagsterInvariantViolationError:
        return nullcontext
    try:
        from ..step_watch import StepWatch  # here, because loading a code location should not pay for these imports
    except Exception as error:  # OpenTelemetry refuses some values of OTEL_* as soon as it is imported
        context.log.warning("Lineage and tracing are off, because they could not be loaded: %s", redact(str(error)))
        return nullcontext
    guard = FaultGuard()
    with guard():
        return StepWatch.of(context, settings, guard, partial(catalog.step_assets, context, function)).scope
    return nullcontext


def _wrap(function: Function, open_scope: Callable[[], Scope]) -> Function:
    """Return a function of the same kind whose code runs in the scope that `open_scope` returns when it starts."""
    if inspect.isasyncgenfunction(function):

        @wraps(function)
        async def watched_async_generator(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
            scope, generator = open_scope(), function(*args, **kwargs)
            while True:
                with scope():
                    try:
                        item = await anext(generator)
                    except StopAsyncIteration:
                        return
                yield item

        return watched_async_generator
    if inspect.iscoroutinefunction(function):

        @wraps(function)
        async def watched_coroutine(*args: Any, **kwargs: Any) -> Any:
            with open_scope()():
                return await function(*args, **kwargs)

        return watched_coroutine
    if inspect.isgeneratorfunction(function):

        @wraps(function)
        def watched_generator(*args: Any, **kwargs: Any) -> Generator[Any, None, Any]:
            return (yield from _resumed(function(*args, **kwargs), open_scope()))

        return watched_generator

    @wraps(function)
    def watched_function(*args: Any, **kwargs: Any) -> Any:
        scope = open_scope()
        with scope():
            result = function(*args, **kwargs)
        return _resumed(result, scope) if inspect.isgenerator(result) else result

    return watched_function


def _resumed(generator: Iterator[Any], scope: Scope) -> Generator[Any, None, Any]:
    """Yield from a generator, whose code runs in the scope."""
    try:
        while True:
            with scope():
                try:
                    item = next(generator)
                except StopIteration as end:
                    return end.value
            yield item
    finally:
        close = getattr(generator, "close", None)
        if close:
            with scope():
                close()
