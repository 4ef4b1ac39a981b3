"""The preparation of the manifest that Dagster's assets are made from."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from typing import Any

import orjson
from dagster_dbt import DbtProject
from dagster_dbt.core import resource
from dagster_dbt.errors import DagsterDbtCliRuntimeError

from ..redact import redact
from ..settings import settings
from .placeholders import placeholders, restored
from .profile import ProfileError, read_output

# Names the manifest that a parent process has just made.
PREPARED = "FLOE_PREPARED_MANIFEST"
ANSI_CODES = re.compile(r"\x1b\[[0-9;]*m")
NO_NEWS = {"Encountered an error:", ""}


class ParseError(Exception):
    """dbt cannot parse the project; the message is dbt's own, on one line."""


# Why dbt could not parse the project in this process: Dagster imports the project again for each module that needs it.
_failure: list[ParseError] = []


def prepare_once(project: DbtProject) -> None:
    """Let dbt parse `project` in development, as dagster-dbt does, but not again in the processes of its steps.

    Raises:
        ParseError: dbt cannot; said again, without another try, whenever this process asks.
    """
    made = _stamp(project)
    if not project.preparer.using_dagster_dev() or (made and os.environ.get(PREPARED) == made):
        return
    _parse(project)
    os.environ[PREPARED] = _stamp(project)


def prepare_anywhere(project: DbtProject) -> list[str]:
    """Make the manifest without the warehouse's variables; return those that are missing.

    Raises:
        ProfileError: The profile has no such output.
        ParseError: dbt cannot parse the project.
    """
    variables, missing = placeholders(settings)
    with environment(variables):
        _parse(project)
    return missing


def load_manifest(project: DbtProject) -> dict[str, Any]:
    """Return dbt's manifest of `project`; outside production a missing one is made by `dbt parse`.

    Raises:
        FileNotFoundError: There is none and the dbt output is `prod`: it belongs into the image, made at build time.
        ParseError: dbt cannot parse the project.
    """
    if not project.manifest_path.exists():
        if project.target == "prod":
            raise FileNotFoundError(
                f"{project.manifest_path} is missing: make it when the image is built, `DBT_TARGET=prod floe prepare`"
            )
        _parse(project)
    manifest: dict[str, Any] = orjson.loads(restored(project.manifest_path.read_bytes(), settings))
    return manifest


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set variables for a while: dagster-dbt hands its own environment to dbt and takes no other."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _parse(project: DbtProject) -> None:
    if _failure:
        raise _failure[0].with_traceback(None)
    printed = io.StringIO()
    try:
        read_output(settings)  # what is wrong there dbt tells less clearly
        with redirect_stdout(printed), _quiet():
            project.preparer.prepare(project)
    except ProfileError as error:
        _failure.append(ParseError(str(error)))
    except DagsterDbtCliRuntimeError as error:
        message = _message(str(error), printed.getvalue())
        _failure.append(ParseError(f"dbt cannot parse {project.project_dir}: {message}"))
    if _failure:  # outside of the except clause, so that the error has no cause to be shown as well
        raise _failure[0]


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep dagster-dbt from logging in 75 lines what the error says in one."""
    before = resource.logger.disabled
    resource.logger.disabled = True
    try:
        yield
    finally:
        resource.logger.disabled = before


def _message(error: str, printed: str) -> str:
    """Return dbt's own words on one line, from dagster-dbt's error, or else from what dbt has printed."""
    output = error.partition("Errors parsed from dbt logs:")[2] or printed or error
    lines = [line.strip() for line in ANSI_CODES.sub("", output).splitlines()]
    return redact(" ".join(line for line in lines if line not in NO_NEWS))


def _stamp(project: DbtProject) -> str:
    path = project.manifest_path
    return f"{path}:{path.stat().st_mtime_ns}" if path.exists() else ""
