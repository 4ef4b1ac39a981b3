"""The update table, printed at the end from the recorded properties of tests, by target."""

from __future__ import annotations

from collections import defaultdict

import pytest

from tools.rendering import TARGETS


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print one row a kind of change, one column a target."""
    table: dict[str, dict[str, object]] = defaultdict(dict)
    for report in terminalreporter.getreports("passed"):
        target = report.nodeid.rpartition("[")[2].rstrip("]")
        if report.when == "call" and target in TARGETS:
            for row, outcome in report.user_properties:
                table[row][target] = outcome
    if not table:
        return
    terminalreporter.section("updates")
    for cells in (["", *TARGETS], ["---"] * (1 + len(TARGETS))):
        terminalreporter.write_line(f"| {' | '.join(cells)} |")
    for row, outcomes in table.items():
        terminalreporter.write_line(f"| {row} | {' | '.join(str(outcomes.get(name, '')) for name in TARGETS)} |")
