"""Tests of dbt's lines in the console form: which ones people see, and when a slow node appears."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from dagster_dbt.core.dbt_cli_event import DbtCoreCliEventMessage
from pipeline.floe.dbt import console_lines
from pipeline.floe.dbt.console_lines import ConsoleLines
from pipeline.floe.dbt.log_records import read_events

MODEL = "model.shop.orders"
FAILED_MODEL: list[tuple[str, str, str, dict[str, Any]]] = [
    ("RunResultFailure", "error", "Failure in model broken", {}),
    ("RunResultError", "error", "  no such column", {}),
    ("Formatting", "info", "", {}),
    ("SQLCompiledPath", "info", "  compiled code at target/compiled/broken.sql", {}),
    ("Formatting", "info", "", {}),
]
EVENTS: list[tuple[str, str, str, dict[str, Any]]] = [
    ("MainReportVersion", "info", "Running with dbt=1.11", {}),
    ("LogStartLine", "info", "1 of 9 START sql table model main.orders ... [RUN]", {"status": "started"}),
    ("LogModelResult", "info", "1 of 9 OK created [\x1b[32mOK\x1b[0m in 0.1s]", {"status": "success"}),
    ("LogTestResult", "info", "2 of 9 PASS unique", {"status": "pass"}),
    ("LogTestResult", "warn", "3 of 9 WARN 2 not_null", {"status": "warn"}),
    ("LogTestResult", "error", "4 of 9 FAIL 1 relation", {"status": "fail"}),
    ("SkippingDetails", "info", "5 of 9 SKIP relation main.after", {"status": "skipped"}),
    ("EndOfRunSummary", "info", "Completed with 1 error", {}),
    *FAILED_MODEL,
    ("RunResultWarning", "warn", "Warning in test not_null", {}),
    ("RunResultWarningMessage", "warn", "  Got 2 results", {}),
    ("SQLCompiledPath", "info", "  compiled code at target/compiled/not_null.sql", {}),
    ("StatsLine", "info", "Done. PASS=1", {}),
]


@pytest.fixture(autouse=True)
def as_console(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write for people, whatever the tests run in."""
    monkeypatch.setenv("LOG_FORMAT", "console")
    monkeypatch.delenv("LOG_LEVEL", raising=False)
    monkeypatch.setattr(console_lines, "OUTPUT_ON_A_TERMINAL", False)


def event(name: str, level: str, message: str, data: dict[str, Any]) -> DbtCoreCliEventMessage:
    """Return an event of dbt."""
    node = {"unique_id": MODEL, "resource_type": "model", "node_status": data.get("status", "None")}
    raw = {"info": {"name": name, "level": level, "msg": message}, "data": {**data, "node_info": node if data else {}}}
    return DbtCoreCliEventMessage(raw_event=raw, event_history_metadata={})


def printed(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return the lines of all events, read as from a command."""

    def stream() -> Any:
        print("a line that is no event")
        for values in EVENTS:
            print(values[2])
            yield event(*values)

    list(read_events(SimpleNamespace(stream_raw_events=stream)))
    return capsys.readouterr().out.splitlines()


def test_wanted_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """Starts, passed tests and the list of failures are left out, but no warning; without a terminal no colors are."""
    assert [
        "a line that is no event",
        "Running with dbt=1.11",
        "1 of 9 OK created [OK in 0.1s]",
        "3 of 9 WARN 2 not_null",
        "4 of 9 FAIL 1 relation",
        "5 of 9 SKIP relation main.after",
        "Completed with 1 error",
        "Warning in test not_null",
        "  Got 2 results",
        "  compiled code at target/compiled/not_null.sql",
        "Done. PASS=1",
    ] == printed(capsys)


def test_all_lines(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """LOG_LEVEL=DEBUG shows all of dbt's lines."""
    monkeypatch.setenv("LOG_LEVEL", "DEBUG")

    assert 1 + len(EVENTS) == len(printed(capsys))


def test_level(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """LOG_LEVEL is the lowest level of dbt's lines too."""
    monkeypatch.setenv("LOG_LEVEL", "ERROR")

    assert ["a line that is no event", "4 of 9 FAIL 1 relation"] == printed(capsys)


def test_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal has dbt's colors."""
    monkeypatch.setattr(console_lines, "OUTPUT_ON_A_TERMINAL", True)

    assert "1 of 9 OK created [\x1b[32mOK\x1b[0m in 0.1s]" in printed(capsys)


def test_secret(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """No line has a secret, even if colors split it."""
    monkeypatch.setenv("OPENLINEAGE_API_KEY", "s3cr3t-value")

    ConsoleLines().write("s3cr3t-\x1b[31mvalue\x1b[0m\n", event("StatsLine", "info", "Done: s3cr3t-value", {}))

    assert "[hidden]\nDone: [hidden]\n" == capsys.readouterr().out


def wait(is_true: Callable[[], bool]) -> None:
    """Wait until something is so, for at most 10 seconds."""
    deadline = time.monotonic() + 10
    while not is_true() and time.monotonic() < deadline:
        time.sleep(0.01)


def test_slow_node(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that runs for long appears while it runs, less and less often, and not after its end."""
    monkeypatch.setattr(console_lines, "FIRST_SECONDS", 0.1)
    monkeypatch.setattr(console_lines, "POLL_SECONDS", 0.01)
    out = ""

    def lines() -> list[str]:
        nonlocal out
        out += capsys.readouterr().out
        return out.splitlines()

    with ConsoleLines() as console:
        console.write("", event(*EVENTS[1]))
        wait(lambda: len(lines()) == 2)
        console.write("", event(*EVENTS[2]))
        before = len(lines())
        time.sleep(0.5)

    assert ["1 of 9 START sql table model main.orders ... [RUN for 0s]"] * 2 == out.splitlines()[:2]
    assert re.search(r"OK created", out.splitlines()[2])
    assert 3 == before == len(lines())
