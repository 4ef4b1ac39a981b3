"""`uv run floe doctor`: shows what is set, tries everything, and says what came of it.

`project.py` looks at dbt's side, `endpoints.py` at where lineage, traces and metrics go. Each check is a function that
yields findings; all run at once, and what has not ended after `SECONDS` is said to hang, so that the whole ends soon
whatever is dead.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module

from ..delivery import THREADS, one_line
from ..redact import redact
from ..settings import Settings
from .finding import SECONDS, Finding

# In the order in which they are shown. Modules are loaded where their checks run: dbt need not wait for OpenTelemetry.
CHECKS = (
    ("project", "profile"),
    ("project", "dbt_debug"),
    ("project", "manifest"),
    ("project", "state"),
    ("endpoints", "lineage"),
    ("endpoints", "traces"),
    ("endpoints", "metrics"),
    ("project", "doubles"),
)


def examine(settings: Settings) -> list[Finding]:
    """Return the findings of all checks, in their order, within about `SECONDS`."""
    deadline = time.monotonic() + SECONDS
    found: dict[str, list[Finding]] = {name: [] for _, name in CHECKS}

    def run(module: str, name: str) -> None:
        try:
            check = getattr(import_module(f".{module}", __name__), name)
            findings: Iterator[Finding] = check(settings, deadline)
            for finding in findings:
                found[name].append(finding)
        except Exception as error:  # one broken check must not hide the others
            found[name].append(Finding(name, "fail", one_line(error)))

    # Daemons, so that a check which hangs does not keep the process either.
    threads = {
        name: threading.Thread(target=run, args=[module, name], name=f"{THREADS}doctor-{name}", daemon=True)
        for module, name in CHECKS
    }
    for thread in threads.values():
        thread.start()
    for name, thread in threads.items():
        thread.join(max(0.0, deadline - time.monotonic()))
        if thread.is_alive():
            found[name] = [*found[name], Finding(name, "fail", f"no answer in {SECONDS:.0f} s: it hangs")]
    return [
        replace(finding, message=redact(finding.message), detail=redact(finding.detail))
        for findings in found.values()
        for finding in findings
    ]
