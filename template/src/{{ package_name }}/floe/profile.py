"""Which environment variables the chosen output of `profiles.yml` reads, and what they are set to."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from .secret_values import profile_variables
from .settings import Settings


class ProfileError(Exception):
    """The profile cannot be read; the message names the file and the next step."""


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable that an output reads; `value` is nothing if it is not set."""

    name: str
    value: str | None
    has_default: bool
    is_secret: bool

    def __str__(self) -> str:
        """Return the variable as it may be shown: a secret's value may not."""
        if self.value is None:
            return f"{self.name} ({'default' if self.has_default else 'not set'})"
        return f"{self.name} (set)" if self.is_secret else f"{self.name}={self.value}"


def profiles_file(settings: Settings) -> Path:
    """Return the path of `profiles.yml`."""
    return settings.dbt_profiles_dir / "profiles.yml"


def read_output(settings: Settings) -> dict[str, Any]:
    """Return the output that `DBT_TARGET` chooses, its values as they stand in the file.

    Raises:
        ProfileError: There is no file, or no such output in it.
    """
    file = profiles_file(settings)
    if not file.is_file():
        raise ProfileError(f"{file} is missing: restore it, or see profiles_dir in floe/settings.toml")
    outputs = next(iter(yaml.safe_load(file.read_text(encoding="utf-8")).values()))["outputs"]
    if settings.dbt_target not in outputs:
        raise ProfileError(f"DBT_TARGET={settings.dbt_target} is none of {', '.join(outputs)} in {file}")
    found: dict[str, Any] = outputs[settings.dbt_target]
    return found


def variables(output: dict[str, Any], settings: Settings) -> Iterator[Variable]:
    """Yield the variables that an output reads, in its order, each once."""
    seen = set()
    for each in profile_variables(output):
        if each.name not in seen:
            seen.add(each.name)
            is_secret = each.is_secret or each.name in settings.secret_variables
            yield Variable(each.name, os.environ.get(each.name), each.default is not None, is_secret)


def hint(settings: Settings) -> str:
    """Return what to look at when dbt could not build anything, on one line."""
    read = ", ".join(map(str, variables(read_output(settings), settings)))
    return f"dbt built nothing. Its output {settings.dbt_target} reads {read}. `uv run floe doctor` tries them."
