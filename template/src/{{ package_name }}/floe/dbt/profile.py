"""The chosen output of `profiles.yml`, and the environment variables that it reads."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import StrictUndefined, TemplateError, UndefinedError
from jinja2.sandbox import SandboxedEnvironment

from ..redact.secret_values import profile_variables
from ..redact.yaml_files import YamlFileError, read_yaml
from ..settings import Settings


class ProfileError(Exception):
    """The profile cannot be read; the message names the file and what to do."""


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable that an output reads; `value` is None if it is not set."""

    name: str
    value: str | None
    has_default: bool
    is_secret: bool

    def __str__(self) -> str:
        """Return the variable for display, without the value if it is secret."""
        if self.value is None:
            return f"{self.name} ({'default' if self.has_default else 'not set'})"
        return f"{self.name} (set)" if self.is_secret else f"{self.name}={self.value}"


def profiles_file(settings: Settings) -> Path:
    """Return the path of `profiles.yml`."""
    return settings.dbt_profiles_dir / "profiles.yml"


def read_output(settings: Settings) -> dict[str, Any]:
    """Return the output of the project's profile that `DBT_TARGET` chooses, with its values as written in the file.

    Raises:
        ProfileError: A file, the profile or the output does not exist.
    """
    file, project_file = profiles_file(settings), settings.dbt_project_dir / "dbt_project.yml"
    if not file.is_file():
        raise ProfileError(f"{file} is missing: restore it, or check profiles_dir in floe/settings.toml")
    if not project_file.is_file():
        raise ProfileError(f"{project_file} is missing: restore it, or check project_dir in floe/settings.toml")
    profiles = _read(file)
    name = settings.dbt_profile or str(_read(project_file).get("profile") or "")
    # `config` is not a profile: older versions of dbt keep their settings there.
    names = [key for key in profiles if key != "config"]
    if "env_var(" in name and len(names) == 1:  # only dbt can evaluate it, but with one profile there is no choice
        name = names[0]
    if name not in names:
        place = "DBT_PROFILE, or `profile` in floe/settings.toml," if settings.dbt_profile else project_file
        raise ProfileError(
            f"{place} names the profile {name or 'of no name'!r}, and {file} has {', '.join(names) or 'none'}: "
            f"write the same name in both, or set `profile` in floe/settings.toml"
        )
    outputs = profiles[name].get("outputs") if isinstance(profiles[name], dict) else None
    if not isinstance(outputs, dict) or not isinstance(outputs.get(settings.dbt_target), dict):
        raise ProfileError(
            f"DBT_TARGET={settings.dbt_target} is not an output of {name} in {file}; "
            f"its outputs: {', '.join(outputs or {})}"
        )
    return dict(outputs[settings.dbt_target])


def _read(file: Path) -> dict[str, Any]:
    try:
        document = read_yaml(file)
    except YamlFileError as error:
        raise ProfileError(str(error)) from error
    if not isinstance(document, dict):
        raise ProfileError(f"{file} is not a mapping of names to values: restore it")
    return document


def read_connection(settings: Settings, keys: Iterable[str]) -> dict[str, Any]:
    """Return fields of the connection as dbt would read them, and `type`, the adapter; without importing dbt.

    Args:
        settings: The project's settings.
        keys: Names of the fields. A field that the output lacks is left out.

    Raises:
        ProfileError: The profile cannot be read, or a field needs more than environment variables.
    """
    output = read_output(settings)
    try:
        return {key: _rendered(output[key]) for key in ("type", *keys) if key in output}
    except TemplateError as error:
        raise ProfileError(f"{profiles_file(settings)} cannot be evaluated without dbt: {error}") from error


def _rendered(value: Any) -> Any:
    if isinstance(value, str):
        return _ENVIRONMENT.from_string(value).render(env_var=_env_var)
    if isinstance(value, list):
        return [_rendered(item) for item in value]
    if isinstance(value, dict):
        return {key: _rendered(item) for key, item in value.items()}
    return value


def _env_var(name: str, default: str | None = None) -> str:
    """Return an environment variable, as dbt's function of this name does."""
    value = os.environ.get(name, default)
    if value is None:
        raise UndefinedError(f"{name} is not set")
    return value


_ENVIRONMENT = SandboxedEnvironment(undefined=StrictUndefined)
# dbt's filters convert text to the types that its adapters require. The names of datasets contain text.
_ENVIRONMENT.filters |= dict.fromkeys(("as_text", "as_number", "as_bool", "as_native"), str)


def variables(output: dict[str, Any], settings: Settings) -> Iterator[Variable]:
    """Yield the variables that an output reads, in order and without repetitions."""
    seen = set()
    for variable in profile_variables(output):
        if variable.name not in seen:
            seen.add(variable.name)
            is_secret = variable.is_secret or variable.name in settings.secret_variables
            yield Variable(variable.name, os.environ.get(variable.name), variable.default is not None, is_secret)


def describe_missing_connection(settings: Settings) -> str:
    """Return a hint, on one line, for a run in which dbt could not build anything."""
    read = ", ".join(map(str, variables(read_output(settings), settings)))
    return f"dbt built nothing. Its output {settings.dbt_target} reads {read}. Run `uv run floe doctor` to test them."
