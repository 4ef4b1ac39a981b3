"""Values that may never leave the process in a text: those of the secret variables of `settings.toml`."""

from __future__ import annotations

import os

from .settings import settings

HIDDEN = "[hidden]"


def without_secrets(text: str) -> str:
    """Return `text` with each value of a secret variable replaced; an engine's message may repeat one."""
    for value in filter(None, map(os.environ.get, settings.secret_variables)):
        text = text.replace(value, HIDDEN)
    return text
