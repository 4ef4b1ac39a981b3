"""The finding of a check, and the origin of a setting."""

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

CHECK_SECONDS = 8.0  # time limit of a check, counted from its request


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of a check, in one line; `detail` is a client's own message, verbatim."""

    check: str
    state: Literal["ok", "off", "warn", "fail"]
    message: str
    detail: str = ""


class CheckThread(threading.Thread):
    """The thread of a check, a daemon so that a check that hangs does not keep the process alive."""

    def __init__(self, name: str, target: Callable[[], None]) -> None:
        super().__init__(target=target, name=f"{THREAD_PREFIX}doctor-{name}", daemon=True)
        self.requested_at: float | None = None
        self.excused_seconds = 0.0

    @property
    def deadline(self) -> float | None:
        """Return the deadline of the check, or None before it has sent a request."""
        return None if self.requested_at is None else self.requested_at + CHECK_SECONDS + self.excused_seconds


def request_leaves(excused_seconds: float = 0.0) -> float:
    """Start the clock of this thread's check, unless it is running, and return the check's deadline.

    Args:
        excused_seconds: Time since then during which the machine kept the check waiting.
    """
    thread, now = threading.current_thread(), time.monotonic()
    if not isinstance(thread, CheckThread):
        return now + CHECK_SECONDS
    thread.requested_at = thread.requested_at or now
    thread.excused_seconds = excused_seconds
    return thread.requested_at + CHECK_SECONDS + excused_seconds


def origin(*variables: str) -> str:
    """Return the origin of a value: the first of `variables` that is set, and where, or the template's answer."""
    for variable in variables:
        if value := os.environ.get(variable):
            in_file = dotenv_values(ROOT / ".env").get(variable) == value
            return f"{variable} in {'.env' if in_file else 'the environment'}"
    return "the answer in floe/settings.toml"
