"""The finding of a check, and where a setting comes from."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from dotenv import dotenv_values

from ...delivery.sender import THREAD_PREFIX
from ...settings import ROOT

CHECK_SECONDS = 8.0  # that a check has from its request on


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check has found, in one line; `detail` is what a client said, word for word."""

    check: str
    state: Literal["ok", "off", "warn", "fail"]
    message: str
    detail: str = ""


class CheckThread(threading.Thread):
    """A check; a daemon, so that one which hangs does not keep the process either."""

    def __init__(self, name: str, target: Callable[[], None]) -> None:
        super().__init__(target=target, name=f"{THREAD_PREFIX}doctor-{name}", daemon=True)
        self.requested_at: float | None = None
        self.excused_seconds = 0.0

    @property
    def deadline(self) -> float | None:
        """Return when the check has to be done, or nothing as long as no request of its has left."""
        return None if self.requested_at is None else self.requested_at + CHECK_SECONDS + self.excused_seconds


def request_leaves(excused_seconds: float = 0.0) -> float:
    """Start the clock of the check that runs in this thread, unless it runs; return when the check has to be done.

    Args:
        excused_seconds: How long since then the machine has kept the check from going on.
    """
    thread, now = threading.current_thread(), time.monotonic()
    if not isinstance(thread, CheckThread):
        return now + CHECK_SECONDS
    thread.requested_at = thread.requested_at or now
    thread.excused_seconds = excused_seconds
    return thread.requested_at + CHECK_SECONDS + excused_seconds


def origin(*variables: str) -> str:
    """Return what sets a value: the first of `variables` that is set, and where, or the template's answer."""
    for variable in variables:
        if value := os.environ.get(variable):
            in_file = dotenv_values(ROOT / ".env").get(variable) == value
            return f"{variable} in {'.env' if in_file else 'the environment'}"
    return "the answer in floe/settings.toml"
