"""What a check finds, and where a setting comes from."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

from dotenv import dotenv_values

from ..settings import ROOT

SECONDS = 8.0  # for all checks, which run at once


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check has found, in one line; `detail` is what a client said, word for word."""

    check: str
    state: Literal["ok", "off", "warn", "fail"]
    message: str
    detail: str = ""


def origin(*variables: str) -> str:
    """Return what sets a value: the first of `variables` that is set, and where, or the template's answer."""
    for variable in variables:
        if value := os.environ.get(variable):
            in_file = dotenv_values(ROOT / ".env").get(variable) == value
            return f"{variable} in {'.env' if in_file else 'the environment'}"
    return "the answer in floe/settings.toml"
