"""The command `uv run floe doctor`: shows the settings, tests every connection and reports the findings.

`project.py` checks dbt, `endpoints.py` where lineage, traces and metrics go, `alerts.py` where messages about failures
go. Each check is a function that yields findings. All run at the same time and may take `CHECK_SECONDS` each, counted
from their first request: on a busy machine, loading a client takes longer than finding out that an endpoint is dead.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from importlib import import_module

from ...delivery.counts import one_line
from ...redact import redact
from ...settings import Settings
from .finding import CHECK_SECONDS, CheckThread, Finding
from .off import is_off, switched_off

# In the order of display. Each check loads its own module, so that dbt does not wait for OpenTelemetry to load.
CHECKS = (
    ("project", "profile"),
    ("project", "dbt_debug"),
    ("project", "manifest"),
    ("project", "catalog"),
    ("project", "target_folder"),
    ("project", "state"),
    ("endpoints", "lineage"),
    ("endpoints", "traces"),
    ("endpoints", "metrics"),
    ("alerts", "alerts"),
    ("project", "duplicate_emitters"),
)
PATIENCE_SECONDS = 60.0  # time for everything before a check's request
SPARE_SECONDS = 1.0  # the part of it that is left for a check to report a timeout itself
POLL_SECONDS = 0.05


def examine(settings: Settings) -> list[Finding]:
    """Run all checks and return their findings, in order."""
    latest = time.monotonic() + PATIENCE_SECONDS
    findings: dict[str, list[Finding]] = {name: [] for _, name in CHECKS}

    def run(module: str, name: str) -> None:
        try:
            check = getattr(import_module(f".{module}", __name__), name)
            yielded: Iterator[Finding] = check(settings, latest - SPARE_SECONDS)
            for finding in yielded:
                findings[name].append(finding)
        except Exception as error:  # one broken check must not hide the others
            findings[name].append(Finding(name, "fail", one_line(error)))

    threads = {
        name: CheckThread(name, partial(run, module, name)) for module, name in CHECKS if not is_off(settings, name)
    }
    for thread in threads.values():
        thread.start()
    for _, name in CHECKS:
        if name not in threads:
            findings[name] = list(switched_off(settings, name))
        elif late := _late(name, threads[name], latest):
            findings[name] = [*findings[name], late]
    return [
        replace(finding, message=redact(finding.message), detail=redact(finding.detail))
        for of_check in findings.values()
        for finding in of_check
    ]


def _late(name: str, thread: CheckThread, latest: float) -> Finding | None:
    """Wait for a check; return a finding if it does not end in time."""
    while thread.is_alive():
        if time.monotonic() >= (thread.deadline or latest):
            if thread.deadline is None:
                late = f"not tried: this machine was too busy to start the check within {PATIENCE_SECONDS:.0f} s"
                return Finding(name, "warn", late)
            return Finding(name, "fail", f"no answer in {CHECK_SECONDS:.0f} s: it hangs")
        thread.join(POLL_SECONDS)
    return None
