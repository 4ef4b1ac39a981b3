"""The preparation of the manifest from which Dagster's assets are built."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout, suppress
from typing import Any

import orjson
from dagster_dbt import DbtProject
from dagster_dbt.core import resource
from dagster_dbt.errors import DagsterDbtCliRuntimeError
from filelock import FileLock

from ..redact import ANSI_CODES, redact
from ..settings import settings
from .placeholders import placeholders, restored
from .profile import ProfileError, read_output

logger = logging.getLogger(__name__)

# The variable that identifies the manifests that a parent process has just made, one per line.
PREPARED = "FLOE_PREPARED_MANIFEST"
UNINFORMATIVE_LINES = {"Encountered an error:", ""}


class ParseError(Exception):
    """dbt cannot parse the project; the message is dbt's own, on one line."""


# The parse error of this process, kept because Dagster imports the project again for each module that needs it.
_failure: list[ParseError] = []


def prepare_once(project: DbtProject) -> None:
    """Let dbt parse `project` in development, as dagster-dbt does, but not again in the step processes.

    Raises:
        ParseError: dbt cannot parse the project. Further calls in this process raise it again without another try.
    """
    prepared = os.environ.get(PREPARED, "").splitlines()
    if not project.preparer.using_dagster_dev() or _stamp(project) in prepared:
        return
    _parse_or_log(project)
    os.environ[PREPARED] = "\n".join([*prepared, _stamp(project)])


def prepare_anywhere(project: DbtProject) -> list[str]:
    """Make the manifest without the warehouse's variables; return the names of the missing ones.

    Raises:
        ProfileError: The profile has no such output.
        ParseError: dbt cannot parse the project.
    """
    variables, missing = placeholders(settings)
    with environment(variables):
        _parse(project)
    return missing


def load_manifest(project: DbtProject) -> dict[str, Any]:
    """Return dbt's manifest of `project`; outside production, make a missing one with `dbt parse`.

    Raises:
        FileNotFoundError: It is missing and the dbt output is `prod`, where the image must contain it.
        ParseError: dbt cannot parse the project.
    """
    # Only the first project's manifest may be in the image alone: another one has a folder of its own.
    is_first = project.manifest_path == settings.dbt_artifacts_dir / "manifest.json"
    file = settings.dbt_manifest if is_first else project.manifest_path
    if not file.exists():
        if project.target == "prod":
            raise FileNotFoundError(f"{file} is missing: run `DBT_TARGET=prod floe prepare` when you build the image")
        _parse_or_log(project)
    manifest: dict[str, Any] = orjson.loads(restored(file.read_bytes(), settings))
    return manifest


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set variables inside this block, because dagster-dbt passes its own environment to dbt and accepts no other."""
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


def _parse_or_log(project: DbtProject) -> None:
    """Parse `project`; log the first error as well, because Dagster prints a long traceback above the message."""
    is_first = not _failure
    try:
        _parse(project)
    except ParseError as error:
        if is_first:
            logger.error("%s", error)
        raise


def _parse(project: DbtProject) -> None:
    if _failure:
        raise _failure[0].with_traceback(None)
    printed = io.StringIO()
    try:
        read_output(settings)  # our error is clearer than dbt's
        with redirect_stdout(printed), _quiet():
            try:
                project.preparer.prepare(project)
            finally:
                _remove_lock_of_packages(project)
    except ProfileError as error:
        _failure.append(ParseError(str(error)))
    except DagsterDbtCliRuntimeError as error:
        message = _message(str(error), printed.getvalue())
        _failure.append(ParseError(f"dbt cannot parse {project.project_dir}: {message}"))
    if _failure:  # raised outside the except clause, so that no cause is shown with the error
        raise _failure[0]


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep dagster-dbt from logging 75 lines about what the error says in one."""
    before = resource.logger.disabled
    resource.logger.disabled = True
    try:
        yield
    finally:
        resource.logger.disabled = before


def _remove_lock_of_packages(project: DbtProject) -> None:
    """Remove the empty file that dagster-dbt's lock of `dbt deps` leaves in the dbt project, where git would see it."""
    file = project.project_dir / "package-lock.concurrent-update-lock"
    # OSError: another process has the lock, and removes the file later.
    with suppress(OSError):
        if file.exists():
            with FileLock(file).acquire(blocking=False):
                file.unlink()


def _message(error: str, printed: str) -> str:
    """Return dbt's own message on one line, from dagster-dbt's error or else from dbt's output."""
    output = error.partition("Errors parsed from dbt logs:")[2] or printed or error
    lines = [line.strip() for line in ANSI_CODES.sub("", output).splitlines()]
    return redact(" ".join(line for line in lines if line not in UNINFORMATIVE_LINES))


def _stamp(project: DbtProject) -> str:
    path = project.manifest_path
    return f"{path}:{path.stat().st_mtime_ns}" if path.exists() else ""
