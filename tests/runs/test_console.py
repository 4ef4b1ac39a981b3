"""Tests of what people see of a run: green on a terminal, and red in the log of a CI service."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pexpect
import pytest

from tools import runs

pytestmark = pytest.mark.xdist_group("console")

LAUNCH = ["dg", "launch", "--assets", "*"]
BUILT = ["seed file main.raw_orders", "sql view model main.stg_orders", "sql table model main.orders"]
BUILT += ["sql incremental model main.daily_revenue", "snapshotted main.customer_history"]
MOST_GREEN, MOST_RED = 60, 90


def environment(project: Path, **variables: str) -> dict[str, str]:
    """Return the environment of a run by a person, or by a CI service if `variables` say so."""
    inherited = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return inherited | {"DAGSTER_HOME": str(project / "home"), "PYTHONPATH": "src"} | variables


def test_green_on_a_terminal(project: Path, tmp_path: Path) -> None:
    """A green run shows each node in color, and no start or passed test; its lines fit the limit."""
    folder = runs.copy(project, tmp_path / "project")
    variables = environment(folder, TERM="xterm")
    child = pexpect.spawn(
        LAUNCH[0], LAUNCH[1:], cwd=str(folder), env=variables, timeout=300, encoding="utf-8", dimensions=(50, 200)
    )
    text = child.read()
    child.close()
    lines = re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()

    assert 0 == child.exitstatus, text
    assert MOST_GREEN >= len(lines), text
    assert "[\x1b[32mOK\x1b[0m in " in text
    assert [] == [name for name in BUILT if name not in text]
    assert [] == [line for line in lines if re.search(r"^\{|\d START |\d PASS |debug|subsetted|partial_parse", line)]
    assert 2 == len([line for line in lines if re.search(r"info .*(Started|Finished) execution of run", line)])


def test_red_in_ci(project: Path, tmp_path: Path) -> None:
    """A red run in CI has no JSON, color or stack, and ends with the first failure and what it has caused."""
    broken = runs.copy(project, tmp_path / "project", runs.MISTAKES)
    done = subprocess.run(
        LAUNCH, cwd=broken, env=environment(broken, CI="true"), capture_output=True, text=True, check=False
    )
    text = done.stdout + done.stderr
    lines = text.splitlines()
    summary = done.stdout[done.stdout.index("Failed first: ") :].splitlines()

    assert 0 != done.returncode
    assert MOST_RED >= len(lines), text
    assert [] == [line for line in lines if re.search(r"^\{|\x1b|\d START |\d PASS |Stack Trace|File \"", line)]
    assert 4 == len([line for line in lines if re.search(r"\d (ERROR|FAIL|SKIP) ", line)])
    assert "Failed first: model broken (dbt/models/marts/broken.sql)" == summary[0]
    assert "no_such_column" in summary[2]
    compiled = next(line.partition(": ")[2] for line in summary if line.startswith("  compiled: "))
    assert (broken / compiled).is_file()
    assert not Path(compiled).is_absolute()
    (skipped,) = (line for line in summary if line.startswith("  skipped because of it: "))
    assert {"after_broken", "after_between"} <= set(re.findall(r"\w+", skipped))
    assert ["Failed as well:", "  test fails: Got 120 results, configured to fail if != 0", ""] == summary[-3:]
