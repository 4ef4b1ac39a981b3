"""dbt's output in the console form: the lines that people need, and which nodes take long.

In: the events of a dbt command. Out: dbt's own lines on standard output, without secrets, and without colors unless it
is a terminal. Unless `LOG_LEVEL=DEBUG`, START lines, passed tests and dbt's list of failures are left out: dbt counts
the tests, and `failure_summary.py` replaces the list. A START line appears once its node has run for `FIRST_SECONDS`.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from dataclasses import dataclass
from types import TracebackType

from dagster_dbt.core.dbt_cli_event import DbtCliEventMessage

from ..logs import OUTPUT_ON_A_TERMINAL, is_complete, level
from ..redact import ANSI_CODES, redact
from .raw_events import RESULTS, SKIPS, Raw

LEVELS = {"debug": logging.DEBUG, "warn": logging.WARNING, "error": logging.ERROR}
START_LINES = {"LogHookStartLine", "LogStartBatch", "LogStartLine"}
# The events with which dbt lists a failure after the last node; the first one starts the list.
FAILURE = "RunResultFailure"
FAILURE_DETAILS = {"CheckNodeTestFailure", "Formatting", "RunResultError", "RunResultErrorNoMessage", "SQLCompiledPath"}
# A node's START line appears after 5 s, 20 s, 80 s, and then every 4 minutes.
FIRST_SECONDS = 5.0
FACTOR = 4
LONGEST_PAUSE_SECONDS = 240.0
POLL_SECONDS = 1.0


@dataclass(slots=True)
class _RunningNode:
    line: str
    started: float
    due: float


class ConsoleLines:
    """The lines of one dbt command; a context manager that reports slow nodes until its end."""

    def __init__(self) -> None:
        self._out = sys.stdout
        self._level, self._is_complete = level(), is_complete()
        self._in_failure = False
        self._running: dict[str, _RunningNode] = {}
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._reporter = threading.Thread(target=self._report, name="slow dbt nodes", daemon=True)

    def __enter__(self) -> ConsoleLines:
        """Start to report slow nodes."""
        self._reporter.start()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        """Report no more nodes."""
        self._ended.set()
        self._reporter.join()

    def write(self, rest: str, event: DbtCliEventMessage | None) -> None:
        """Write `rest`, printed lines that are not events, such as a traceback; then write an event."""
        with self._lock:
            if event is not None:
                self._follow(event.raw_event)
            is_wanted = event is not None and self._is_wanted(event.raw_event)
            self._print(rest + (f"{event}\n" if is_wanted else ""))

    def _print(self, text: str) -> None:
        if text:
            self._out.write(redact(text if OUTPUT_ON_A_TERMINAL else ANSI_CODES.sub("", text)))
            self._out.flush()

    def _is_wanted(self, raw: Raw) -> bool:
        name = raw["info"]["name"]
        self._in_failure = name == FAILURE or (self._in_failure and name in FAILURE_DETAILS)
        if LEVELS.get(raw["info"]["level"], logging.INFO) < self._level:
            return False
        if self._is_complete:
            return True
        is_passed_test = name == "LogTestResult" and raw["data"].get("status") == "pass"
        return not (self._in_failure or is_passed_test or name in START_LINES)

    def _follow(self, raw: Raw) -> None:
        name, unique_id = raw["info"]["name"], raw["data"].get("node_info", {}).get("unique_id")
        if not unique_id:
            return
        if name in START_LINES and unique_id not in self._running:
            now = time.monotonic()
            self._running[unique_id] = _RunningNode(raw["info"]["msg"], now, now + FIRST_SECONDS)
        elif name in RESULTS or name in SKIPS or name == "NodeFinished":
            self._running.pop(unique_id, None)

    def _report(self) -> None:
        while not self._ended.wait(POLL_SECONDS):
            now = time.monotonic()
            with self._lock:
                for node in self._running.values():
                    if now >= node.due:
                        seconds = now - node.started
                        node.due = now + min((FACTOR - 1) * seconds, LONGEST_PAUSE_SECONDS)
                        self._print(f"{node.line.removesuffix('[RUN]')}[RUN for {seconds:.0f}s]\n")
