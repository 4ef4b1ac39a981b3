"""Tests of the reason for a failed dbt command: the first cause, with dbt's message."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest
from dagster_dbt.errors import DagsterDbtCliRuntimeError
from pipeline.floe.dbt.command import NOTHING_SELECTED
from pipeline.floe.dbt.failures import dbt_message
from pipeline.floe.observer import Observer
from pipeline.floe.run_outcome import command_end, step_end

from tests.faults.drive import context, environment, invocation, settings
from tests.faults.server import faulty
from tests.floe.test_node_events import HOOK, MODEL, raw

PREAMBLE = (
    "The dbt CLI process with command\n\n`dbt build --select fqn:*`\n\nfailed with exit code `{code}`. Check the "
    "stdout in the Dagster compute logs for the full information about the error, or view the dbt debug log: "
    "/x/dbt.log."
)
PARSED = "\n\nErrors parsed from dbt logs:\n\n"
MESSAGES = f"{PARSED}Database Error in model b (models/b.sql)\n  no such column"


@pytest.mark.parametrize(
    ("code", "messages", "expected"),
    [
        (1, MESSAGES, "Database Error in model b (models/b.sql)\n  no such column"),
        (-9, "", "dbt exited with code -9 and gave no reason; see its output in the run's log."),
    ],
)
def test_dbt_message(code: int, messages: str, expected: str) -> None:
    """Of dagster-dbt's error what dbt says is left, in the command's end and in the step's as Dagster records it."""
    error = DagsterDbtCliRuntimeError(PREAMBLE.format(code=code) + messages)
    cause = SimpleNamespace(
        cls_name="DagsterDbtCliRuntimeError",
        message=f"dagster_dbt.errors.DagsterDbtCliRuntimeError: {error}\n",
        cause=None,
    )
    event: Any = SimpleNamespace(
        event_type=dg.DagsterEventType.STEP_FAILURE, event_specific_data=SimpleNamespace(error=cause)
    )

    assert [expected] * 3 == [dbt_message(str(error)), command_end(error).message, step_end(event).message]


def test_other_message() -> None:
    """The text of any other error stays as it is."""
    assert "The dbt CLI process is a program" == dbt_message("The dbt CLI process is a program")


def fail(folder: Path, raws: list[dict[str, Any]], error: Exception, log: logging.Handler) -> dict[str, str]:
    """Let a run fail with `error` after the events; return the error message of each job that has one."""
    with faulty() as server, environment(folder / "state"):
        of_step = context({})
        of_step.log = logging.Logger("step")  # noqa: LOG001 - of this run alone
        of_step.log.addHandler(log)
        observer = Observer(of_step, settings("lineage", server.url))
        observer.attach(invocation(folder))
        for event in raws:
            observer.handle(event)
        observer.finish(error)
    facets = {event["job"]["name"]: event["run"]["facets"].get("errorMessage") for event in server.events}
    return {job: facet["message"] for job, facet in facets.items() if facet}


def model(number: int, name: str, message: str) -> list[dict[str, Any]]:
    """Return the events of a model that fails."""
    end = raw("LogModelResult", number, name, status="error")
    end["data"]["run_result"] = {"status": "error", "message": message}
    return [raw("LogStartLine", number, name), end]


ERROR = DagsterDbtCliRuntimeError(PREAMBLE.format(code=1) + MESSAGES)
HOOK_FAILS = [
    raw("LogHookStartLine", 1, HOOK),
    raw("LogHookEndLine", 1, HOOK, status="error"),
    raw("RunResultError", 9, HOOK, status="error", msg="the hook failed"),
]


class Lines(logging.Handler):
    """Keeps the lines of a log."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line."""
        self.lines.append(record.getMessage())


@pytest.mark.parametrize(
    ("raws", "error", "expected"),
    [
        ([*model(1, "model.shop.a", "no a"), *model(2, MODEL, "no b")], ERROR, "model.shop.a: no a\n\n1 other node"),
        (model(1, MODEL, "no b"), ERROR, f"{MODEL}: no b"),
        (model(1, MODEL, "no b"), ValueError("of the asset"), "of the asset"),
        ([], ERROR, "Database Error in model b"),
        ([*HOOK_FAILS[:2], *model(2, MODEL, "no b"), HOOK_FAILS[2]], ERROR, f"the hook failed\n\n{MODEL}: no b"),
        ([*model(0, MODEL, "no b"), *HOOK_FAILS], ERROR, f"{MODEL}: no b\n\nthe hook failed"),
        (HOOK_FAILS, ERROR, "the hook failed"),
    ],
    ids=["two", "one", "asset", "no node", "hook first", "hook last", "hook"],
)
def test_first_cause(raws: list[dict[str, Any]], error: Exception, expected: str, tmp_path: Path) -> None:
    """The reason of the command and of the run is the first node or hook that failed, and what dbt says of it."""
    messages = fail(tmp_path, raws, error, Lines())

    assert [True, True] == [messages[job].startswith(expected) for job in ("dbt.shop", "daily")], messages


def test_early_end(tmp_path: Path) -> None:
    """A node during which dbt ends is not given the message of another as if it were its own."""
    raws = [raw("LogStartLine", 1, "model.shop.slow"), *model(2, MODEL, "no b")]
    messages = fail(tmp_path, raws, ERROR, Lines())

    assert f"dbt exited before this node finished: {MODEL}: no b" == messages["model.shop.slow"]


@pytest.mark.parametrize(
    ("raws", "error", "is_shown"),
    [
        ([], DagsterDbtCliRuntimeError(PREAMBLE.format(code=1) + PARSED + "no server"), True),
        ([], FileNotFoundError("no program dbt"), True),
        ([], DagsterDbtCliRuntimeError(PREAMBLE.format(code=1) + PARSED + "Compilation Error\n  x"), False),
        (model(1, MODEL, "no such column"), ERROR, False),
        (HOOK_FAILS, ERROR, False),
        ([], dg.Failure(NOTHING_SELECTED), False),
    ],
    ids=["no connection", "no dbt", "not parsed", "model", "hook", "nothing selected"],
)
def test_hint(raws: list[dict[str, Any]], error: Exception, tmp_path: Path, *, is_shown: bool) -> None:
    """What the profile reads is shown where dbt may not have reached the warehouse, and nowhere else."""
    log = Lines()
    fail(tmp_path, raws, error, log)

    assert is_shown == any("DUCKDB_PATH" in line for line in log.lines), log.lines


def test_colors(tmp_path: Path) -> None:
    """Messages are sent without the color codes that dbt writes into those of unit tests."""
    error = DagsterDbtCliRuntimeError(PREAMBLE.format(code=1) + PARSED + "\x1b[31mactual\x1b[0m differs")
    raws = model(1, MODEL, "actual differs from expected:\n\x1b[31m-1\x1b[0m → \x1b[32m2\x1b[0m")
    messages = fail(tmp_path, raws, error, Lines())

    assert {MODEL, "dbt.shop"} <= set(messages)
    assert all("-1 → 2" in message and "\x1b" not in message for message in messages.values())
