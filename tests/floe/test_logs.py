"""Tests of log lines: one formatter for all loggers, matching ids, no secrets."""

from __future__ import annotations

import json
import logging
import pickle
import sys
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest
import structlog
from opentelemetry.sdk.trace import TracerProvider
from pipeline.floe import logs

from tools.rendering import run

RUN_ID = "3af8618d-af6f-4b71-be87-6c928a10eb2d"


@pytest.fixture(autouse=True)
def as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write JSON, and know one secret."""
    monkeypatch.setenv("LOG_FORMAT", "json")
    monkeypatch.setenv("OPENLINEAGE_API_KEY", "s3cr3t-value")


def written(message: str, *args: Any, **extra: Any) -> dict[str, Any]:
    """Return what a record of the standard library becomes."""
    record = logging.LogRecord("some.library", logging.WARNING, __file__, 1, message, args, extra.pop("exc_info", None))
    vars(record).update(extra)
    line: dict[str, Any] = json.loads(logs.formatter().format(record))
    return line


def test_foreign_record() -> None:
    """A library's record is structured like ours."""
    line = written("took %s s", 3)

    assert ("took 3 s", "warning", "some.library") == (line["event"], line["level"], line["logger"])
    assert line["timestamp"].endswith("Z")


def test_level(monkeypatch: pytest.MonkeyPatch) -> None:
    """LOG_LEVEL is the least level of Dagster's run loggers too; start and end of a run are told as of level INFO."""
    handler = logging.StreamHandler()
    logs.RunLogger("dagster").addHandler(handler)
    debug, info = (logging.LogRecord("dagster", level, __file__, 1, "x", (), None) for level in (10, 20))
    start = logging.LogRecord("dagster", 10, __file__, 1, "x", (), None)
    start.dagster_meta = {"dagster_event": SimpleNamespace(event_type=dg.DagsterEventType.RUN_START)}

    monkeypatch.delenv("LOG_LEVEL", raising=False)
    assert [False, True, True] == [bool(handler.filter(record)) for record in (debug, info, start)]
    monkeypatch.setenv("LOG_LEVEL", "error")
    assert [False, False, False] == [bool(handler.filter(record)) for record in (debug, info, start)]


@pytest.mark.parametrize(
    ("terminal", "container", "variables", "is_json"),
    [
        (False, False, {}, False),
        (False, True, {}, True),
        (False, False, {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, True),
        (False, False, {"ECS_CONTAINER_METADATA_URI_V4": "http://169.254.170.2/v4"}, True),
        (False, False, {"CLOUD_RUN_JOB": "daily"}, True),
        (True, True, {}, False),
        (False, True, {"CI": "true"}, False),
        (False, True, {"CI": "false"}, True),
        (False, True, {"TF_BUILD": "True"}, False),
        (False, False, {"CI": "true", "LOG_FORMAT": "json"}, True),
        (True, False, {"LOG_FORMAT": "JSON"}, True),
        (False, True, {"LOG_FORMAT": "console"}, False),
        (False, False, {"LOG_FORMAT": "xml"}, False),
    ],
)
def test_form(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    *,
    terminal: bool,
    container: bool,
    variables: dict[str, str],
    is_json: bool,
) -> None:
    """Lines are JSON on request or in a container; a terminal and CI, whose log people read, have the console form."""
    for name in ("LOG_FORMAT", *logs.CI_VARIABLES, *logs.CONTAINER_VARIABLES):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(logs, "ON_A_TERMINAL", terminal)
    monkeypatch.setattr(logs, "CONTAINER_FILES", (tmp_path if container else tmp_path / "missing",))

    assert is_json == logs.is_json()


def dagster_record(
    message: str, level: int = logging.INFO, event_type: dg.DagsterEventType | None = None, **data: Any
) -> logging.LogRecord:
    """Return a record of a Dagster run."""
    record = logging.LogRecord("dagster", level, __file__, 1, message, (), None)
    event = event_type and SimpleNamespace(event_type=event_type, event_specific_data=SimpleNamespace(**data))
    record.dagster_meta = {"run_id": RUN_ID, "orig_message": message, "dagster_event": event}
    return record


@pytest.mark.parametrize("form", ["json", "console"])
def test_milestone(monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    """The start of a run reads as of level info, although Dagster logs it as debug."""
    monkeypatch.setenv("LOG_FORMAT", form)

    text = logs.formatter().format(dagster_record("Started", logging.DEBUG, dg.DagsterEventType.RUN_START))

    assert ("info" in text, "debug" in text) == (True, False)


@pytest.mark.parametrize(
    ("form", "level", "is_written"), [("json", "INFO", True), ("console", "INFO", False), ("console", "DEBUG", True)]
)
def test_noise(monkeypatch: pytest.MonkeyPatch, form: str, level: str, is_written: bool) -> None:
    """What dagster-dbt logs for every run is left out of the console form."""
    monkeypatch.setenv("LOG_FORMAT", form)
    monkeypatch.setenv("LOG_LEVEL", level)
    handler = logging.StreamHandler()
    logs.RunLogger("dagster").addHandler(handler)
    noise = [
        "A dbt subsetted execution is not being performed. Using the default dbt selection arguments …",
        "Copying `/x/target/partial_parse.msgpack` to `/x/target/run/partial_parse.msgpack` to take advantage …",
    ]

    assert [is_written, is_written, True, True] == [
        bool(handler.filter(dagster_record(text)))
        for text in (*noise, "A dbt subsetted execution is being performed.", "Copying `a.csv`")
    ]


class RecordedError(SimpleNamespace):
    """An error as Dagster records it."""

    def to_string(self) -> str:
        """Return the message and the stack."""
        return f"{self.message}\nStack Trace:\n  File …"


def failure_text(error: RecordedError) -> tuple[str, str]:
    """Return the lines of a failed step and of its run."""
    step = dagster_record("step failed", logging.ERROR, dg.DagsterEventType.STEP_FAILURE, error=error)
    event = step.dagster_meta["dagster_event"]  # type: ignore[attr-defined]
    run = dagster_record(
        "run failed", logging.ERROR, dg.DagsterEventType.RUN_FAILURE, error=error, first_step_failure_event=event
    )
    return logs.formatter().format(step), logs.formatter().format(run)


@pytest.mark.parametrize(
    ("name", "message", "is_in_step"),
    [
        ("DagsterDbtCliRuntimeError", "`dbt build` failed\n\nErrors parsed from dbt logs:\n\nno column", False),
        ("DagsterDbtCliRuntimeError", "`dbt build` failed with exit code `-9`", False),
        ("ValueError", "no", True),
    ],
)
def test_stack(monkeypatch: pytest.MonkeyPatch, name: str, message: str, is_in_step: bool) -> None:
    """The console form has the stack of an asset's own error once, and none of dbt's; LOG_LEVEL=DEBUG shows all."""
    error = RecordedError(cls_name=name, message=message, stack=[], cause=None)
    monkeypatch.setenv("LOG_FORMAT", "console")
    monkeypatch.delenv("LOG_LEVEL", raising=False)

    step, run = failure_text(error)
    assert (is_in_step, False) == ("Stack Trace" in step, "Stack Trace" in run)
    assert ("no column" in step, "exit code `-9`" in step) == (False, "-9" in message)

    monkeypatch.setenv("LOG_LEVEL", "DEBUG")
    assert [True, True] == ["Stack Trace" in text for text in failure_text(error)]


def test_error_of_run_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of a run outside its steps keeps its stack."""
    monkeypatch.setenv("LOG_FORMAT", "console")
    error = RecordedError(cls_name="ValueError", message="no", stack=[], cause=None)
    record = dagster_record("run failed", logging.ERROR, dg.DagsterEventType.RUN_FAILURE, error=error)

    assert "Stack Trace" in logs.formatter().format(record)


def test_short_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    """The console form has the short id of the run, and whole seconds."""
    monkeypatch.setenv("LOG_FORMAT", "console")

    text = logs.formatter().format(dagster_record("x"))

    assert (f"run_id={RUN_ID[:8]}", "Z") == (text.split()[-1], text.split()[0][-1])
    assert "." not in text.split()[0]


def test_observations() -> None:
    """Of dagster-dbt's warnings of tests that are not asset checks a run has one, on one line."""
    handler = logging.StreamHandler()
    logs.RunLogger("dagster").addHandler(handler)
    lines = []
    for run_id, test in (("a", "one"), ("a", "two"), ("b", "three")):
        message = (
            f"Logging an `AssetObservation` instead of an `AssetCheckResult` for dbt test `{test}`.\n\nThis test …"
        )
        record = logging.LogRecord("dagster", logging.WARNING, __file__, 1, message, (), None)
        record.dagster_meta = {"run_id": f"{RUN_ID[:-1]}{run_id}", "orig_message": message}
        if handler.filter(record):
            lines.append(json.loads(handler.format(record))["event"])

    assert ["`one`", "`three`"] == [line.split()[10].rstrip(".") for line in lines], lines
    assert ["further tests of this kind are not reported."] * 2 == [line[-44:].lower() for line in lines]
    assert [] == [line for line in lines if "\n" in line]


WARNINGS = """
import dagster as dg
from pipeline.floe.logs import write_logs

write_logs()
dg.AssetSelection.from_string("*")
dg.AssetSelection.all(include_sources=True)
"""


def test_beta_warning(project: Path) -> None:
    """Dagster's warning of its own call, at each launch of all assets, is left out; one of the owner's call is not."""
    done = run(sys.executable, "-c", WARNINGS, cwd=project, PYTHONPATH="src", LOG_FORMAT="json")
    lines = [json.loads(line)["event"] for line in done.stderr.splitlines()]

    assert ["<string>:7: BetaWarning: Parameter `include_sources` of function `AssetSelection.all`"] == [
        event.partition(" is currently")[0] for event in lines
    ]


def test_pickled_run() -> None:
    """A run that goes to the process of a step arrives there as it is."""
    pipeline_run = dg.DagsterRun(job_name="daily", run_id=RUN_ID, tags={"a": "b"})
    logs.write_logs()

    assert pipeline_run == pickle.loads(bytes(ForkingPickler.dumps(pipeline_run)))


def test_dagster_error() -> None:
    """An error that Dagster has recorded is data, its causes too."""
    cause = SimpleNamespace(cls_name="KeyError", message="'x'\n", stack=["frame"], cause=None)
    error = SimpleNamespace(cls_name="Failure", message="no\n", stack=[], cause=cause)
    event = SimpleNamespace(event_specific_data=SimpleNamespace(error=error))
    meta = {"run_id": RUN_ID, "job_name": "daily", "dagster_event": event}

    assert [
        {"exc_type": "Failure", "exc_value": "no", "frames": []},
        {"exc_type": "KeyError", "exc_value": "'x'", "frames": ["frame"]},
    ] == written("failed", dagster_meta=meta)["exception"]


def test_run_ids() -> None:
    """Dagster's record carries run id, step, and the trace id that the run id is."""
    run_id = RUN_ID
    meta = {"run_id": run_id, "job_name": "daily", "step_key": "dbt_models", "orig_message": "hello"}

    line = written("daily - 3af8618d - hello", dagster_meta=meta)

    assert (run_id, run_id.replace("-", ""), "dbt_models", "hello") == (
        line["run_id"],
        line["trace_id"],
        line["step_key"],
        line["event"],
    )


def test_span_ids() -> None:
    """Within a span its ids are in the line, flat, whether it is exported or not."""
    with TracerProvider(shutdown_on_exit=False).get_tracer("t").start_as_current_span("s") as span:
        line = written("x")

    context = span.get_span_context()
    assert (f"{context.trace_id:032x}", f"{context.span_id:016x}") == (line["trace_id"], line["span_id"])


def test_no_secret_in_message() -> None:
    """The value of a secret variable never passes, wherever it stands."""
    line = written("could not sign in with %s", "s3cr3t-value")

    assert "could not sign in with [hidden]" == line["event"]


def test_no_part_of_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor a single header's value, nor a key of a transport, nor one as a URL has it."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "x-team=k3y/one,authorization=Bearer t0ken")
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT__AUTH__APIKEY", "4pi-k3y")

    line = written("refused: k3y/one, k3y%2Fone, Bearer t0ken, 4pi-k3y")

    assert "refused: [hidden], [hidden], [hidden], [hidden]" == line["event"]


def test_no_secret_in_traceback() -> None:
    """Nor in an exception's text, which is structured."""
    try:
        raise ConnectionError("refused: key=s3cr3t-value")
    except ConnectionError:
        line = written("failed", exc_info=sys.exc_info())

    assert "s3cr3t-value" not in json.dumps(line)
    assert "ConnectionError" == line["exception"][0]["exc_type"]


def test_no_secret_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor in what a person reads."""
    monkeypatch.setenv("LOG_FORMAT", "console")
    try:
        raise ConnectionError("refused: key=s3cr3t-value")
    except ConnectionError:
        record = logging.LogRecord("x", logging.ERROR, __file__, 1, "failed", (), sys.exc_info())

    text = logs.formatter().format(record)

    assert ("ConnectionError" in text, "s3cr3t-value" in text) == (True, False)


def test_pretty(monkeypatch: pytest.MonkeyPatch) -> None:
    """On request a line is for people."""
    monkeypatch.setenv("LOG_FORMAT", "console")
    record = logging.LogRecord("x", logging.INFO, __file__, 1, "hello", (), None)

    assert "hello" in logs.formatter().format(record)
    with pytest.raises(json.JSONDecodeError):
        json.loads(logs.formatter().format(record))


def test_our_own_logger() -> None:
    """Our own calls take keywords and context variables."""
    structlog.contextvars.bind_contextvars(asset="orders")
    try:
        line = written("x")
    finally:
        structlog.contextvars.clear_contextvars()

    assert "orders" == line["asset"]
