"""structlog for every logger of the process, with the ids that join a log line to its trace.

In: records of the standard library's loggers (Dagster's, OpenLineage's, ours). Out: one line each on standard error,
JSON unless it goes to a terminal; `LOG_FORMAT=json` or `LOG_FORMAT=console` decides otherwise.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, MutableMapping
from typing import Any
from uuid import UUID

import dagster as dg
import structlog
from opentelemetry import trace

from .secret_values import without_secrets

EventDict = MutableMapping[str, Any]


def add_run(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Add run id, step and trace id of the Dagster run that a record belongs to; its trace id is the run id."""
    record = event.get("_record")
    meta = getattr(record, "dagster_meta", None)
    if isinstance(meta, dict) and (run_id := meta.get("run_id")):
        event["event"] = meta.get("orig_message") or event["event"]
        event["run_id"] = run_id
        event["trace_id"] = UUID(run_id).hex
        event.update({name: meta[name] for name in ("job_name", "step_key") if meta.get(name)})
    return event


def add_span(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Add the ids of the current span, if there is one."""
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        event["trace_id"] = trace.format_trace_id(context.trace_id)
        event["span_id"] = trace.format_span_id(context.span_id)
    return event


def hide_secrets(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Replace the values of secret variables wherever they stand."""
    return {key: _hidden(value) for key, value in event.items()}


def formatter() -> structlog.stdlib.ProcessorFormatter:
    """Return the one formatter, for records of structlog and of the standard library alike."""
    # Exceptions become data, or text, before secrets are looked for. Local variables stay out: they hold secrets.
    if _is_json():
        transform = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
        exceptions: Any = structlog.processors.ExceptionRenderer(transform)
        renderer: Any = structlog.processors.JSONRenderer()
    else:
        exceptions = structlog.processors.format_exc_info
        renderer = structlog.dev.ConsoleRenderer()
    renderers = [structlog.stdlib.ProcessorFormatter.remove_processors_meta, exceptions, hide_secrets, renderer]
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*_shared(), structlog.stdlib.ExtraAdder(allow=()), add_run, add_span], processors=renderers
    )


def write_logs(context: dg.AssetExecutionContext) -> None:
    """Write what any logger of this process says from now on through `formatter`, each record once."""
    structlog.configure(
        processors=[*_shared(), add_span, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    if not any(isinstance(handler.formatter, structlog.stdlib.ProcessorFormatter) for handler in root.handlers):
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(formatter())
        handler.setLevel(os.environ.get("LOG_LEVEL", "INFO").upper())
        # Dagster's records reach the run's own handlers too.
        handler.addFilter(lambda record: not hasattr(record, "dagster_meta"))
        root.addHandler(handler)
    for run_handler in _run_handlers(context):
        run_handler.setFormatter(formatter())
        run_handler.setLevel(os.environ.get("LOG_LEVEL", "INFO").upper())


def _run_handlers(context: dg.AssetExecutionContext) -> Iterator[logging.Handler]:
    # Dagster makes a run's console logger itself and takes another only from a run's configuration.
    for handler in context.log.handlers:
        for logger in getattr(handler, "_loggers", ()):
            yield from logger.handlers


def _shared() -> list[Any]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]


def _is_json() -> bool:
    told = os.environ.get("LOG_FORMAT", "").lower()
    return told == "json" if told in {"json", "console"} else not sys.stderr.isatty()


def _hidden(value: Any) -> Any:
    if isinstance(value, str):
        return without_secrets(value)
    if isinstance(value, dict):
        return {key: _hidden(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_hidden(item) for item in value]
    return value
