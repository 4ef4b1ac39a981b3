"""Values that may never leave the process in a text: those of the secret variables of `settings.toml`."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from functools import lru_cache
from urllib.parse import quote

from .settings import settings

HIDDEN = "[hidden]"
# The keys of endpoints have more names than a list can hold.
OTHERS = re.compile(r"OTEL_EXPORTER_OTLP_(\w+_)?HEADERS|OPENLINEAGE__\w*(KEY|TOKEN|SECRET|PASSWORD)")


def without_secrets(text: str) -> str:
    """Return `text` with each value of a secret variable replaced; an engine's message may repeat one."""
    return hider()(text)


def hider() -> Callable[[str], str]:
    """Return `without_secrets` for many texts: the environment is looked through once."""
    names = [*settings.secret_variables, *filter(OTHERS.fullmatch, os.environ)]
    pattern = _pattern(tuple((name, os.environ[name]) for name in names if os.environ.get(name)))
    return lambda text: pattern.sub(HIDDEN, text) if pattern else text


@lru_cache(maxsize=1)
def _pattern(variables: tuple[tuple[str, str], ...]) -> re.Pattern[str] | None:
    """Return what finds each secret, as it stands in its variable and as it stands in a URL."""
    found = set()
    for name, value in variables:
        # Headers are name=value,name=value.
        parts = [each.partition("=")[2].strip() for each in value.split(",")] if name.endswith("HEADERS") else []
        for secret in filter(None, (value, *parts)):
            found |= {secret, quote(secret, safe="")}
    # The longest first: one may be the beginning of another.
    return re.compile("|".join(map(re.escape, sorted(found, key=len, reverse=True)))) if found else None
