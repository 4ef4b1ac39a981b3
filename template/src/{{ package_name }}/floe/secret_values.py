"""Values that may never leave the process in a text: those of the secret variables of `settings.toml`."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from urllib.parse import quote

from .settings import settings

HIDDEN = "[hidden]"
# The keys of endpoints have more names than a list can hold.
OTHERS = re.compile(r"OTEL_EXPORTER_OTLP_(\w+_)?HEADERS|OPENLINEAGE__\w*(KEY|TOKEN|SECRET|PASSWORD)")


def without_secrets(text: str) -> str:
    """Return `text` with each value of a secret variable replaced; an engine's message may repeat one."""
    for value in _values():
        text = text.replace(value, HIDDEN)
    return text


def _values() -> Iterator[str]:
    """Yield what is secret, as it stands in its variable and as it stands in a URL."""
    for name in [*settings.secret_variables, *filter(OTHERS.fullmatch, os.environ)]:
        if value := os.environ.get(name):
            # Headers are name=value,name=value.
            parts = [each.partition("=")[2].strip() for each in value.split(",")] if name.endswith("HEADERS") else []
            for secret in filter(None, (value, *parts)):
                yield from {secret, quote(secret, safe="")}
