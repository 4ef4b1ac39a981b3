"""Log lines: one formatter for all loggers, ids that join, no secret."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

import pytest
import structlog
from opentelemetry.sdk.trace import TracerProvider
from pipeline.floe import logs


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


def test_run_ids() -> None:
    """Dagster's record carries run id, step, and the trace id that the run id is."""
    run_id = "3af8618d-af6f-4b71-be87-6c928a10eb2d"
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
