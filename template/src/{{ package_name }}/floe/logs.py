"""Logging: structlog for every logger of the process, with trace ids.

In: records of the standard library's loggers (Dagster's, OpenLineage's, ours) and of structlog's. Out: one line per
record on standard error: JSON for machines, or the console form for people (see `is_json`).
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
from pathlib import Path
from typing import Any

import dagster as dg
import structlog
from dagster_shared import error as dagster_errors
from opentelemetry import trace

from .ids import run_span_id, trace_id
from .redact import ANSI_CODES, redact, redact_values, redactor
from .step import Step

EventDict = MutableMapping[str, Any]

# Checked when the code location loads, because Dagster replaces the terminal by files during a step.
ON_A_TERMINAL = sys.stderr.isatty()
OUTPUT_ON_A_TERMINAL = sys.stdout.isatty()
# Most CI services set CI, but Azure Pipelines and Jenkins do not.
CI_VARIABLES = ("CI", "TF_BUILD", "JENKINS_URL")
CONTAINER_FILES = (Path("/.dockerenv"), Path("/run/.containerenv"))
CONTAINER_VARIABLES = ("KUBERNETES_SERVICE_HOST", "ECS_CONTAINER_METADATA_URI_V4", "CLOUD_RUN_JOB")
# Dagster logs these at DEBUG.
MILESTONES = {
    dg.DagsterEventType.RUN_START,
    dg.DagsterEventType.RUN_SUCCESS,
    dg.DagsterEventType.STEP_START,
    dg.DagsterEventType.STEP_SUCCESS,
    dg.DagsterEventType.STEP_UP_FOR_RETRY,
}
# What dagster-dbt logs for every run, although the command line says it as well.
NOISE = re.compile(r"A dbt subsetted execution is not being performed|Copying `.*partial_parse\.msgpack`")
ALL_ASSETS = r"Parameter `include_sources` of function `AssetSelection\.all` is currently in beta"
DBT_ERROR = "DagsterDbtCliRuntimeError"
DBT_MESSAGES = "Errors parsed from dbt logs:"
DBT_ERROR_IS_ABOVE = "dbt failed: its messages are above. LOG_LEVEL=DEBUG shows Dagster's stack trace as well."
OBSERVATION = "Logging an `AssetObservation` instead of an `AssetCheckResult`"

TRANSPORT_LOGGER = "openlineage.client.client"

_transport_lines: set[str] = set()
_runs_with_observations: set[str | None] = set()
# The step that runs in this process. Not a context variable, because other threads would not see it.
_step: dict[str, str] = {}


def add_run(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Add the ids of the Dagster run and step that a record belongs to."""
    meta = getattr(event.get("_record"), "dagster_meta", None)
    if not (isinstance(meta, dict) and meta.get("run_id")):
        event.update({name: value for name, value in _step.items() if name not in event})
        return event
    run_id, step_key = meta["run_id"], meta.get("step_key")
    event["event"] = meta.get("orig_message") or event["event"]
    event.update(run_id=run_id, job_name=meta.get("job_name"))
    event.setdefault("trace_id", f"{trace_id(run_id):032x}")
    if not step_key:
        event.setdefault("span_id", f"{run_span_id(run_id):016x}")
    else:
        event["step_key"] = step_key
        if (run_id, step_key) == (_step.get("run_id"), _step.get("step_key")):
            event.setdefault("span_id", _step["span_id"])
    dagster_event = meta.get("dagster_event")
    if _is_milestone(dagster_event) and event.get("level") == "debug":
        event["level"] = "info"
    if error := getattr(getattr(dagster_event, "event_specific_data", None), "error", None):
        exception = _dagster_exception(error) if is_json() else _dagster_error(error, dagster_event)
        event.update({"exception": exception} if exception else {})
    return event


def add_span(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Add the ids of the current span, if there is one and the record does not name another."""
    context = trace.get_current_span().get_span_context()
    if context.is_valid and "span_id" not in event:
        event["trace_id"] = trace.format_trace_id(context.trace_id)
        event["span_id"] = trace.format_span_id(context.span_id)
    return event


def hide_secrets(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Redact the values of secret variables; first remove terminal color codes, which could split a secret."""
    hide = redactor()
    return {key: redact_values(value, lambda text: hide(ANSI_CODES.sub("", text)), key) for key, value in event.items()}


def shorten(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Drop the ids that people do not need, and shorten the run's id, as Dagster's pages do, and the time."""
    short = {key: value for key, value in event.items() if key not in {"job_name", "step_key", "trace_id", "span_id"}}
    if "run_id" in short:
        short["run_id"] = str(short["run_id"])[:8]
    short["timestamp"] = re.sub(r"\.\d+Z$", "Z", str(short["timestamp"]))
    return short


def formatter() -> structlog.stdlib.ProcessorFormatter:
    """Return the formatter for all records, those of structlog and those of the standard library."""
    # Render exceptions, as data or text, before redacting secrets. Leave out local variables, which may hold secrets.
    if is_json():
        transform = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
        exceptions: Any = structlog.processors.ExceptionRenderer(transform)
        renderer: list[Any] = [structlog.processors.JSONRenderer()]
    else:
        exceptions = structlog.processors.format_exc_info
        renderer = [shorten, structlog.dev.ConsoleRenderer(colors=ON_A_TERMINAL)]
    renderers = [structlog.stdlib.ProcessorFormatter.remove_processors_meta, exceptions, hide_secrets, *renderer]
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*_shared(), structlog.stdlib.ExtraAdder(allow=()), add_span, add_run], processors=renderers
    )


def write_logs() -> None:
    """Write the records of all loggers of this process through `formatter` from now on, each record once."""
    structlog.configure(
        processors=[*_shared(), add_span, add_run, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    logging.setLoggerClass(RunLogger)
    logging.captureWarnings(True)
    # Dagster's own call warns at every launch of all assets. The same call in the project's code still warns.
    warnings.filterwarnings("ignore", ALL_ASSETS, dg.BetaWarning, r"dagster\..*\.antlr_asset_selection$")
    ForkingPickler.register(dg.DagsterRun, _pickle_run)
    _redact_dagster_errors()
    root = logging.getLogger()
    if not any(isinstance(handler.formatter, structlog.stdlib.ProcessorFormatter) for handler in root.handlers):
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(formatter())
        handler.addFilter(_is_unwritten)
        handler.addFilter(_is_new_transport)
        root.addHandler(handler)
        root.setLevel(level())


def _redact_dagster_errors() -> None:
    """Redact each error of this process that Dagster records in its event log, whatever code has raised it."""
    # Dagster converts every exception here. If a release does so elsewhere, only errors of dbt commands are redacted.
    recorded = getattr(dagster_errors, "SerializableErrorInfo", None)
    convert = getattr(recorded, "from_traceback", None)
    if recorded is None or convert is None or getattr(convert, "redacts", False):
        return

    def converted(cls: Any, traceback: Any) -> Any:
        error = convert.__func__(cls, traceback)  # calls `cls.from_traceback` for causes
        return error._replace(message=redact(error.message), stack=[redact(line) for line in error.stack])

    converted.redacts = True  # type: ignore[attr-defined]
    recorded.from_traceback = classmethod(converted)


def _pickle_run(run: dg.DagsterRun) -> tuple[Any, ...]:
    """Pickle a run so that the process that unpickles it sets up its logs first.

    Dagster passes the run to the process of a step, which logs an event before it loads the code location.
    """
    reduced = run.__reduce_ex__(pickle.HIGHEST_PROTOCOL)
    return _unpickle_run, reduced[:2], *reduced[2:]


def _unpickle_run(make: Callable[..., dg.DagsterRun], arguments: tuple[Any, ...]) -> dg.DagsterRun:
    write_logs()
    return make(*arguments)


def enter_step(step: Step) -> None:
    """Add the step's ids to all log lines of this process from now on."""
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

    Dagster creates a run's console logger itself and accepts another only in the run's configuration. It does ask
    `logging` for the logger class.
    """

    def addHandler(self, hdlr: logging.Handler) -> None:  # noqa: N802 - the name in the base class
        """Add a handler; Dagster's gets our formatter and filters."""
        if self.name == "dagster":
            hdlr.setFormatter(formatter())
            hdlr.addFilter(_is_wanted)
            hdlr.addFilter(_is_news)
            hdlr.addFilter(_is_no_noise)
        super().addHandler(hdlr)


def _is_unwritten(record: logging.LogRecord) -> bool:
    """Return whether no handler of its own logger has written the record, as Dagster's loggers do."""
    return not hasattr(record, "dagster_meta") and not logging.getLogger(record.name.partition(".")[0]).handlers


def _is_new_transport(record: logging.LogRecord) -> bool:
    """Return whether a record is not the line about the transport, which the client of each step in a process logs."""
    if record.name != TRANSPORT_LOGGER or record.levelno > logging.INFO:
        return True
    is_first = record.getMessage() not in _transport_lines
    _transport_lines.add(record.getMessage())
    return is_first


def _is_wanted(record: logging.LogRecord) -> bool:
    """Return whether to write a record of Dagster's; milestones count as INFO."""
    is_milestone = _is_milestone(getattr(record, "dagster_meta", {}).get("dagster_event"))
    return max(record.levelno, logging.INFO if is_milestone else record.levelno) >= level()


def _is_milestone(event: Any) -> bool:
    return event is not None and getattr(event, "event_type", None) in MILESTONES


def _is_no_noise(record: logging.LogRecord) -> bool:
    text = getattr(record, "dagster_meta", {}).get("orig_message") or ""
    return is_complete() or not NOISE.match(text)


def _is_news(record: logging.LogRecord) -> bool:
    """Return whether a record is new within its run: dagster-dbt warns about every test that is not an asset check.

    Tests on ephemeral models are an example. Only the first warning is written, shortened to one line.
    """
    meta: dict[str, Any] = getattr(record, "dagster_meta", {})
    text = meta.get("orig_message") or ""
    if not text.startswith(OBSERVATION):
        return True
    is_first = meta.get("run_id") not in _runs_with_observations
    _runs_with_observations.add(meta.get("run_id"))
    meta["orig_message"] = f"{' '.join(text.split())} Further tests of this kind are not reported."
    return is_first


def _shared() -> list[Any]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]


def is_json() -> bool:
    """Return whether log lines are JSON: if `LOG_FORMAT` says so, or in a container without a terminal and without CI.

    A job of a CI service may run in a container, but people read its log.
    """
    log_format = os.environ.get("LOG_FORMAT", "").lower()
    if log_format in {"json", "console"}:
        return log_format == "json"
    return not ON_A_TERMINAL and not _is_ci() and _is_container()


def level() -> int:
    """Return the lowest level that is written."""
    return logging.getLevelNamesMapping().get(os.environ.get("LOG_LEVEL", "").upper(), logging.INFO)


def is_complete() -> bool:
    """Return whether every line is written: in JSON, and in the console form with `LOG_LEVEL=DEBUG`."""
    return is_json() or level() <= logging.DEBUG


def _is_ci() -> bool:
    return any(os.environ.get(name, "").lower() not in {"", "0", "false"} for name in CI_VARIABLES)


def _is_container() -> bool:
    return any(name in os.environ for name in CONTAINER_VARIABLES) or any(file.exists() for file in CONTAINER_FILES)


def _dagster_exception(error: Any) -> list[dict[str, Any]]:
    """Return an error that Dagster has recorded, and its causes, in structlog's form of exceptions."""
    errors = []
    while error:
        errors.append({"exc_type": error.cls_name, "exc_value": error.message.strip(), "frames": error.stack})
        error = error.cause
    return errors


def _dagster_error(error: Any, event: Any) -> str:
    """Return an error that Dagster has recorded, for people.

    Of dbt's errors it has no stack, which is Dagster's and dagster-dbt's own, and no messages, which dbt's lines have.
    The end of the run does not repeat the error of its step.
    """
    if is_complete():
        return str(error.to_string())
    step_failure = getattr(event.event_specific_data, "first_step_failure_event", None)
    if step_failure is not None and step_failure.event_specific_data.error == error:
        return ""
    cause = error
    while cause is not None and cause.cls_name != DBT_ERROR:
        cause = cause.cause
    if cause is None:
        return str(error.to_string())
    return DBT_ERROR_IS_ABOVE if DBT_MESSAGES in cause.message else str(cause.message).strip()
