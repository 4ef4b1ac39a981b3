"""A demo from nothing to a green, observed pipeline: `uvx nox -s demo [-- FOLDER]`.

Renders the template's defaults, installs the project, builds everything through Dagster on DuckDB with a real endpoint
for lineage and traces on loopback, and shows the results.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tools.receiver import Receiver, receiver
from tools.rendering import render, snapshot

# Reads Dagster's summary of the last run, in the project's own environment.
SUMMARY = """
import json, sys
import dagster as dg
instance = dg.DagsterInstance.get()
run = instance.get_runs(limit=1)[0]
kinds = {dg.DagsterEventType.ASSET_MATERIALIZATION, dg.DagsterEventType.ASSET_CHECK_EVALUATION}
events = [entry.dagster_event for entry in instance.all_logs(run.run_id, of_type=kinds)]
checks = [event.event_specific_data for event in events if event.event_type_value == "ASSET_CHECK_EVALUATION"]
json.dump({
    "status": run.status.value, "run_id": run.run_id, "tags": run.tags,
    "assets": sum(event.event_type_value == "ASSET_MATERIALIZATION" for event in events),
    "checks": len(checks), "passed": sum(check.passed for check in checks),
}, sys.stdout)
"""
ROWS = """
import duckdb, json, sys
connection = duckdb.connect(sys.argv[1], read_only=True)
names = connection.sql("select table_name from duckdb_tables()").fetchall()
json.dump({name: connection.sql(f'select count(*) from "{name}"').fetchall()[0][0] for (name,) in names}, sys.stdout)
"""

INDENT = "  "
QUIET_SECONDS = 8.0  # then a step says that it still runs
# What our log adds to a message, which a demo does not need: time and level before it, logger and run after it.
BEFORE_MESSAGE = re.compile(r"^\S+Z \[(?P<level>\w+) *\] ")
AFTER_MESSAGE = re.compile(r" +\[[\w.]+\] +run_id=\w+$")


def main() -> int:
    """Run the demo in the folder of the first argument, or in a new one; return the exit code."""
    started = time.monotonic()
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "demo-project").resolve()
    if folder.exists() and any(folder.iterdir()):
        print(f"{folder} is not empty: remove it, or name another: `uvx nox -s demo -- FOLDER`", file=sys.stderr)
        return 1
    progress = Progress()
    with tempfile.TemporaryDirectory() as scratch, receiver() as endpoint:
        with progress.step(f"rendering the defaults to {os.path.relpath(folder)}"):
            render(snapshot(Path(scratch)), folder, project_name="demo-project")
        with progress.step("installing the project"):
            call(folder, "uv", "sync", "--quiet")
        with progress.step("parsing the dbt project"):
            call(folder, "uv", "run", "floe", "prepare")
        # Without DAGSTER_HOME, `dg launch` stores its runs in a temporary folder.
        home = folder / ".dagster"
        home.mkdir()
        (home / "dagster.yaml").write_text(
            "telemetry: {enabled: false}\n"
        )  # otherwise Dagster prints 20 lines about it
        environment = {
            "DAGSTER_HOME": str(home),
            "OPENLINEAGE_URL": endpoint.url,
            "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint.url,
        }
        with progress.step("building everything through Dagster"):
            build(folder, environment, progress)
        with progress.step("reading the results"):
            run = json.loads(call(folder, "uv", "run", "python", "-c", SUMMARY, environment=environment))
            rows = json.loads(call(folder, "uv", "run", "python", "-c", ROWS, "local/warehouse.duckdb"))
    show(run, rows, endpoint, time.monotonic() - started)
    print(f"\nNext:\n\n    cd {os.path.relpath(folder)}\n    uv run dg dev    # then open http://localhost:3000\n")
    healthy = run["status"] == "SUCCESS" and run["passed"] == run["checks"] and endpoint.events and endpoint.spans
    return 0 if healthy else 1


class Progress:
    """The progress of the demo: its steps, their output, and the time so far of a step that is quiet."""

    def __init__(self) -> None:
        self._last_line = time.monotonic()

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        """Print the name of a step, and how long it took."""
        started, ended = time.monotonic(), threading.Event()
        self.say(f"· {what} …")
        reporter = threading.Thread(target=self._report, args=(what, started, ended), daemon=True)
        reporter.start()
        try:
            yield
        finally:
            ended.set()
            reporter.join()
        self.say(f"{INDENT}{time.monotonic() - started:.1f} s")

    def say(self, line: str) -> None:
        """Print a line at once."""
        print(line, flush=True)
        self._last_line = time.monotonic()

    def _report(self, what: str, started: float, ended: threading.Event) -> None:
        while not ended.wait(min(1.0, QUIET_SECONDS)):
            now = time.monotonic()
            if now - self._last_line >= QUIET_SECONDS:
                self.say(f"{INDENT}still {what}: {now - started:.0f} s")


def call(folder: Path, *command: str, environment: dict[str, str] | None = None) -> str:
    """Run a command in the project and return what it prints; show its errors and stop if it fails."""
    done = subprocess.run(
        command, cwd=folder, env=outside() | (environment or {}), capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout}\n{done.stderr}")
    return done.stdout


def outside() -> dict[str, str]:
    """Return the environment without nox's variables, because the project has its own virtual environment."""
    own = {"VIRTUAL_ENV", "UV_PYTHON", "UV_PROJECT_ENVIRONMENT"}
    return {name: value for name, value in os.environ.items() if name not in own}


def build(folder: Path, environment: dict[str, str], progress: Progress) -> None:
    """Materialise every asset; print the lines of the run as they come."""
    log = folder / ".dagster" / "build.log"
    command = ["uv", "run", "dg", "launch", "--assets", "*"]
    width = shutil.get_terminal_size().columns - len(INDENT)
    # dbt appends up to 22 characters to this width, such as `[INSERT 684 in 0.33s]`.
    settings = outside() | environment | {"LOG_FORMAT": "console", "DBT_PRINTER_WIDTH": str(width - 22)}
    with (
        log.open("w") as lines,
        subprocess.Popen(
            command, cwd=folder, env=settings, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process,
    ):
        for line in process.stdout or ():
            lines.write(line)
            for part in fit(line.rstrip(), width):
                progress.say(f"{INDENT}{part}")
    if process.returncode:
        sys.exit(f"{' '.join(command)} failed; its output is in {log}")


def fit(line: str, width: int) -> list[str]:
    """Return a line of the run without time and ids, in parts that are not longer than `width`; [] for a blank one."""
    before = BEFORE_MESSAGE.match(line)
    if before:
        level = "" if before["level"] == "info" else f"{before['level']}: "
        line = level + AFTER_MESSAGE.sub("", line[before.end() :])
    line = line.rstrip()
    return [line] if 0 < len(line) <= width else textwrap.wrap(line, width, subsequent_indent=2 * INDENT)


def show(run: dict[str, object], rows: dict[str, int], endpoint: Receiver, seconds: float) -> None:
    """Print the results as a table."""
    kinds = Counter(event["eventType"] for event in endpoint.events)
    traces = {span.trace_id.hex() for span in endpoint.spans}
    events = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    table = [
        ("Run", f"{run['status']}  {run['run_id']}"),
        ("Assets", f"{run['assets']} materialised"),
        ("Checks", f"{run['passed']} of {run['checks']} passed"),
        ("Rows", f"{sum(rows.values()):,} in {len(rows)} tables"),
        ("Lineage events", f"{len(endpoint.events)} received ({events})"),
        ("Spans", f"{len(endpoint.spans)} received, in {len(traces)} trace{'s' * (len(traces) != 1)}"),
        ("Seconds", f"{seconds:.0f}"),
    ]
    width = max(len(value) for _, value in table)
    print(f"\n┌{'─' * 16}┬{'─' * (width + 2)}┐")
    for name, value in table:
        print(f"│ {name:<14} │ {value:<{width}} │")
    print(f"└{'─' * 16}┴{'─' * (width + 2)}┘")


if __name__ == "__main__":
    sys.exit(main())
