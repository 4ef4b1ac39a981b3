"""Logging: structlog for every logger of the process, with the ids of the trace.

In: records of the standard library's loggers (Dagster's, OpenLineage's, ours) and of structlog's. Out: one line each on
standard error, JSON unless it goes to a terminal; `LOG_FORMAT=json` or `LOG_FORMAT=console` decides otherwise.
"""

from __future__ import annotations

import logging
import os
import pickle
import re
import sys
import warnings
from collections.abc import Callable, MutableMapping
from multiprocessing.reduction import ForkingPickler
from typing import Any

import dagster as dg
import structlog
from opentelemetry import trace

from .ids import run_span_id, trace_id
from .redact import redact_values, redactor
from .step import Step

EventDict = MutableMapping[str, Any]

# Asked when the code location is loaded: during a step Dagster puts a file in the terminal's place.
ON_A_TERMINAL = sys.stderr.isatty()
MILESTONES = {
    dg.DagsterEventType.RUN_START,
    dg.DagsterEventType.RUN_SUCCESS,
    dg.DagsterEventType.STEP_START,
    dg.DagsterEventType.STEP_SUCCESS,
    dg.DagsterEventType.STEP_UP_FOR_RETRY,
}
ANSI_CODES = re.compile(r"\x1b\[[0-9;]*m")
ALL_ASSETS = r"Parameter `include_sources` of function `AssetSelection\.all` is currently in beta"
OBSERVATION = "Logging an `AssetObservation` instead of an `AssetCheckResult`"

_runs_with_observations: set[str | None] = set()
# The step that runs in this process. No context variable: threads would not have it.
_step: dict[str, str] = {}


def add_run(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Add the ids of the Dagster run and step that a record belongs to."""
    meta = getattr(event.get("_record"), "dagster_meta", None)
    if not (isinstance(meta, dict) and meta.get("run_id")):
        event.update({name: value for name, value in _step.items() if name not in event})
        return event
    run_id, step_key = meta["run_id"], meta.get("step_key")
    event["event"] = meta.get("orig_message") or event["event"]
    event.update(run_id=run_id, trace_id=f"{trace_id(run_id):032x}", job_name=meta.get("job_name"))
    if not step_key:
        event["span_id"] = f"{run_span_id(run_id):016x}"
    elif (run_id, step_key) == (_step.get("run_id"), _step.get("step_key")):
        event.update(step_key=step_key, span_id=_step["span_id"])
    else:
        event["step_key"] = step_key
    if error := getattr(getattr(meta.get("dagster_event"), "event_specific_data", None), "error", None):
        event["exception"] = _dagster_exception(error) if is_json() else error.to_string()
    return event


def add_span(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Add the ids of the current span, if there is one."""
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        event["trace_id"] = trace.format_trace_id(context.trace_id)
        event["span_id"] = trace.format_span_id(context.span_id)
    return event


def hide_secrets(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Replace the values of secret variables wherever they stand; drop a terminal's colors, which would cut them."""
    hide = redactor()
    return {key: redact_values(value, lambda text: hide(ANSI_CODES.sub("", text)), key) for key, value in event.items()}


def drop_ids(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Leave out what would be the same on each line of a terminal."""
    return {key: value for key, value in event.items() if key not in {"job_name", "step_key", "trace_id", "span_id"}}


def formatter() -> structlog.stdlib.ProcessorFormatter:
    """Return the one formatter, for records of structlog and of the standard library alike."""
    # Exceptions become data, or text, before secrets are looked for. Local variables stay out: they hold secrets.
    if is_json():
        transform = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
        exceptions: Any = structlog.processors.ExceptionRenderer(transform)
        renderer: list[Any] = [structlog.processors.JSONRenderer()]
    else:
        exceptions = structlog.processors.format_exc_info
        renderer = [drop_ids, structlog.dev.ConsoleRenderer(colors=ON_A_TERMINAL)]
    renderers = [structlog.stdlib.ProcessorFormatter.remove_processors_meta, exceptions, hide_secrets, *renderer]
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*_shared(), structlog.stdlib.ExtraAdder(allow=()), add_run, add_span], processors=renderers
    )


def write_logs() -> None:
    """Write what any logger of this process says from now on through `formatter`, each record once."""
    structlog.configure(
        processors=[*_shared(), add_run, add_span, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    logging.setLoggerClass(RunLogger)
    logging.captureWarnings(True)
    # Of Dagster's own call, at each launch of all assets; code of the project that does the same is still warned.
    warnings.filterwarnings("ignore", ALL_ASSETS, dg.BetaWarning, r"dagster\..*\.antlr_asset_selection$")
    ForkingPickler.register(dg.DagsterRun, _pickle_run)
    root = logging.getLogger()
    if not any(isinstance(handler.formatter, structlog.stdlib.ProcessorFormatter) for handler in root.handlers):
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(formatter())
        handler.addFilter(_is_unwritten)
        root.addHandler(handler)
        root.setLevel(_level())


def _pickle_run(run: dg.DagsterRun) -> tuple[Any, ...]:
    """Pickle a run for a process that this one starts, which is to write its logs likewise before anything else.

    Dagster hands the run to the process of a step, where it logs an event before it loads the code location.
    """
    reduced = run.__reduce_ex__(pickle.HIGHEST_PROTOCOL)
    return _unpickle_run, reduced[:2], *reduced[2:]


def _unpickle_run(make: Callable[..., dg.DagsterRun], arguments: tuple[Any, ...]) -> dg.DagsterRun:
    write_logs()
    return make(*arguments)


def enter_step(step: Step) -> None:
    """Name the step in all lines of this process from now on."""
    write_logs()
    _step.update(
        run_id=step.run_id,
        trace_id=f"{trace_id(step.run_id):032x}",
        span_id=f"{step.span_id:016x}",
        job_name=step.job_name,
        step_key=step.key,
    )


class RunLogger(logging.Logger):
    """A logger that writes a run's lines through `formatter`.

    Dagster makes the console logger of a run itself, takes another only from a run's configuration, and asks
    `logging` for the class.
    """

    def addHandler(self, hdlr: logging.Handler) -> None:  # noqa: N802 - the base's name
        """Add a handler."""
        if self.name == "dagster":
            hdlr.setFormatter(formatter())
            hdlr.addFilter(_is_wanted)
            hdlr.addFilter(_is_news)
        super().addHandler(hdlr)


def _is_unwritten(record: logging.LogRecord) -> bool:
    """Say whether no handler of its own has written a record, as Dagster's loggers have them."""
    return not hasattr(record, "dagster_meta") and not logging.getLogger(record.name.partition(".")[0]).handlers


def _is_wanted(record: logging.LogRecord) -> bool:
    """Say whether a record of Dagster's is to be written: its word for a run's success is but a debug message."""
    event = getattr(record, "dagster_meta", {}).get("dagster_event")
    is_milestone = event is not None and event.event_type in MILESTONES
    return max(record.levelno, logging.INFO if is_milestone else record.levelno) >= _level()


def _is_news(record: logging.LogRecord) -> bool:
    """Say whether a record says what others of its run have not; dagster-dbt warns of each test that is not a check.

    Tests on ephemeral models are an example. The first warning is shortened to one line.
    """
    meta: dict[str, Any] = getattr(record, "dagster_meta", {})
    text = meta.get("orig_message") or ""
    if not text.startswith(OBSERVATION):
        return True
    is_first = meta.get("run_id") not in _runs_with_observations
    _runs_with_observations.add(meta.get("run_id"))
    meta["orig_message"] = f"{' '.join(text.split())} Further tests of this kind are not reported."
    return is_first


def _level() -> int:
    return logging.getLevelNamesMapping().get(os.environ.get("LOG_LEVEL", "").upper(), logging.INFO)


def _shared() -> list[Any]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]


def is_json() -> bool:
    """Say whether lines are for machines."""
    log_format = os.environ.get("LOG_FORMAT", "").lower()
    return log_format == "json" if log_format in {"json", "console"} else not ON_A_TERMINAL


def _dagster_exception(error: Any) -> list[dict[str, Any]]:
    """Return an error that Dagster has recorded, and its causes, as structlog has exceptions."""
    errors = []
    while error:
        errors.append({"exc_type": error.cls_name, "exc_value": error.message.strip(), "frames": error.stack})
        error = error.cause
    return errors
