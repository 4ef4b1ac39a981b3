"""The entry point: `observe` runs a dbt command for Dagster and reports on it.

`defs/` needs nothing else of this package than what is listed in `__all__`. The work behind `observe`, such as lineage,
spans and logs, starts in `observer.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dagster as dg
from dagster_dbt import DbtCliResource
from dagster_dbt.core.dbt_event_iterator import DbtEventIterator

from .assets.translator import FloeTranslator
from .daemon.sensor import alert_sensor, unsent_sensor
from .dbt.caches import cache_dbt_version, cache_output_keys
from .dbt.command import dbt_command, limit_termination, start
from .dbt.file_lock import lock_database
from .dbt.prepare import environment, load_manifest
from .python.compute import observe_steps
from .redact import redact
from .settings import settings

__all__ = ["FloeTranslator", "alert_sensor", "load_manifest", "observe", "observe_steps", "unsent_sensor"]


def observe(
    dbt: DbtCliResource,
    args: Sequence[str],
    context: dg.AssetExecutionContext | dg.OpExecutionContext,
    *,
    retry_tests: bool = False,
    **kwargs: Any,
) -> DbtEventIterator[Any]:
    """Run dbt with `args`, limited to Dagster's selection if the command takes one.

    Call it once per dbt command; a step may run several. `dbt retry` repeats the step's previous command.

    If Dagster repeats the step, because of a `RetryPolicy` or "from failure", only the nodes that failed or were
    skipped are built again. A failed test is not repeated, and if nothing else has failed, neither is the step.

    Args:
        dbt: The resource `dbt`.
        args: Arguments of dbt, such as `["build"]`.
        context: Context of the asset or op.
        retry_tests: Whether failed tests are repeated as well, for example if they read a source that may change.
        kwargs: Further arguments of `DbtCliResource.cli`, such as `raise_on_error` or `target_path`.

    Returns:
        dagster-dbt's event iterator. Yield from it, or from the result of a method such as `fetch_row_counts()`.
    """
    # Imported here, because loading a code location runs no dbt and should not pay for these imports.
    try:
        from .observer import Observer, watched
    except Exception as error:  # OpenTelemetry refuses some values of OTEL_* as soon as it is imported
        context.log.warning("Lineage and tracing are off, because they could not be loaded: %s", redact(str(error)))
        return start(dbt, args, context, kwargs, before=None).stream()
    observer = Observer(context, settings, retries_tests=retry_tests)
    try:
        cache_dbt_version(dbt)
        cache_output_keys(context)
        observer.hold(lock_database(settings, dbt_command(args), context.log))
        args = observer.repeat(args, dbt) or args
        with environment(observer.environment()):
            invocation = start(dbt, args, context, kwargs, before=observer.last_target)
        limit_termination(invocation)
    except BaseException as error:
        observer.finish(error)
        raise
    return DbtEventIterator(watched(invocation, observer), invocation)
