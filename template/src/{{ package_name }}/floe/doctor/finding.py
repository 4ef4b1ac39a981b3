"""What a check finds, and where a setting comes from."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from dotenv import dotenv_values

from ..delivery import THREADS
from ..settings import ROOT

SECONDS = 8.0  # that a check has from its request on


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check has found, in one line; `detail` is what a client said, word for word."""

    check: str
    state: Literal["ok", "off", "warn", "fail"]
    message: str
    detail: str = ""


class CheckThread(threading.Thread):
    """A check; `deadline` is when it has to be done, or nothing as long as no request of its has left.

    A daemon, so that a check which hangs does not keep the process either.
    """

    def __init__(self, name: str, target: Callable[[], None]) -> None:
        super().__init__(target=target, name=f"{THREADS}doctor-{name}", daemon=True)
        self.deadline: float | None = None


def request_leaves() -> float:
    """Start the clock of the check that runs in this thread; return its end, the same for all of its requests."""
    thread, deadline = threading.current_thread(), time.monotonic() + SECONDS
    if not isinstance(thread, CheckThread):
        return deadline
    thread.deadline = thread.deadline or deadline
    return thread.deadline


def origin(*variables: str) -> str:
    """Return what sets a value: the first of `variables` that is set, and where, or the template's answer."""
    for variable in variables:
        if value := os.environ.get(variable):
            in_file = dotenv_values(ROOT / ".env").get(variable) == value
            return f"{variable} in {'.env' if in_file else 'the environment'}"
    return "the answer in floe/settings.toml"
