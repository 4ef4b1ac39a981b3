"""Tests of the demo's progress: lines that fit, and no silence."""

from __future__ import annotations

import time

import pytest

import demo


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ("2026-11-28T11:13:46Z [info     ] Started it. [dagster] run_id=f5098fde", ["Started it."]),
        ("2026-11-28T11:13:46Z [warning  ] No table. [some.library] run_id=f5098fde", ["warning: No table."]),
        ("5 of 54 OK created sql view model main.a ... [OK]", ["5 of 54 OK created sql view model main.a ... [OK]"]),
        ("", []),
        ("FAIL 1 " + "a_long_name " * 5, ["FAIL 1 a_long_name a_long_name a_long_name", "    a_long_name a_long_name"]),
    ],
)
def test_fit(line: str, parts: list[str]) -> None:
    """A line of the run has its message alone, and goes on in the next one if it is too long."""
    assert parts == demo.fit(line, 50)


def test_quiet_step(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that says nothing for long says that it still runs; one that speaks does not."""
    monkeypatch.setattr(demo, "QUIET_SECONDS", 0.2)
    progress = demo.Progress()

    with progress.step("installing"):
        time.sleep(0.5)
    with progress.step("building"):
        for _ in range(10):
            progress.say("a line")
            time.sleep(0.02)

    lines = capsys.readouterr().out.splitlines()
    assert ["· installing …", "  still installing: 0 s"] == lines[:2]
    assert [] == [line for line in lines if "still building" in line]
    assert lines[-1].endswith(" s")
