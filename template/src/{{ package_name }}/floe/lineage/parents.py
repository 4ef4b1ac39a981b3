"""The parent run of a dbt command: the Dagster run, and the run that started it.

In: the environment and the names of the Dagster run. Out: plain data that `events.py` puts into events. An outer parent
is passed in the variables of OpenLineage's own integrations: `OPENLINEAGE_CONTEXT` (JSON), or else
`OPENLINEAGE_PARENT_ID` and `OPENLINEAGE_ROOT_PARENT_ID` (namespace/job/run id).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from ..redact import HIDDEN

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class JobRun:
    """A run of a job, in the form in which a child names its parent."""

    namespace: str
    name: str
    run_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunContext:
    """The Dagster run that a step belongs to.

    Attributes:
        run: Job and id of the run.
        parent: The run that started it, and `root` the run above all; None if Dagster itself started it.
        nominal: Start and end, if any, of the time that it covers: its partition's window, or its schedule's tick.
        tags: Dagster's tags about why it runs.
        producer: The code that makes the events, as a URL.
        version: Version of Dagster.
    """

    run: JobRun
    producer: str
    parent: JobRun | None = None
    root: JobRun | None = None
    nominal: tuple[str, str | None] | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    version: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandInfo:
    """The dbt command."""

    project_name: str
    project_version: str | None = None
    profile_name: str | None = None
    arguments: Sequence[str] = ()

    @property
    def full_refresh(self) -> bool:
        """Return whether incremental tables are rebuilt; the last of the flags takes precedence."""
        flags = [argument for argument in self.arguments if argument in {"-f", "--full-refresh", "--no-full-refresh"}]
        return bool(flags) and flags[-1] != "--no-full-refresh"

    @property
    def parameters(self) -> list[tuple[str, str]]:
        """Return the command and its options, without the values of `--vars`, which may hold secrets."""
        # The first argument is the program.
        parameters: list[tuple[str, list[str]]] = [("command", [])]
        for argument in self.arguments[1:]:
            if argument.startswith("--"):
                name, _, value = argument.removeprefix("--").partition("=")
                parameters.append((name, [value] if value else []))
            else:
                parameters[-1][1].append(argument)
        return [(name, HIDDEN if name == "vars" else " ".join(values) or "true") for name, values in parameters]


def outer_run(environment: Mapping[str, str]) -> tuple[JobRun, JobRun] | None:
    """Return the outer parent and its root from `environment`; log a warning and return None if it is malformed."""
    if context := environment.get("OPENLINEAGE_CONTEXT"):
        runs = _of_context(context)
    elif parent_id := environment.get("OPENLINEAGE_PARENT_ID"):
        parent = _of_text(parent_id)
        root = _of_text(environment.get("OPENLINEAGE_ROOT_PARENT_ID") or parent_id)
        runs = (parent, root or parent) if parent else None
    else:
        return None
    if runs is None:
        logger.warning("OPENLINEAGE_PARENT_ID or OPENLINEAGE_CONTEXT does not name a run: write namespace/job/uuid")
    return runs


def _of_text(text: str) -> JobRun | None:
    # A namespace may contain slashes; a job's name may not.
    rest, _, run_id = text.strip().rpartition("/")
    namespace, _, name = rest.rpartition("/")
    return _job_run(namespace, name, run_id)


def _of_context(text: str) -> tuple[JobRun, JobRun] | None:
    try:
        mapping = json.loads(text)["parent"]
        parent, root = _of_mapping(mapping), _of_mapping(mapping.get("root") or mapping)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return (parent, root or parent) if parent else None


def _of_mapping(mapping: Mapping[str, Any]) -> JobRun | None:
    return _job_run(mapping["job"]["namespace"], mapping["job"]["name"], mapping["run"]["runId"])


def _job_run(namespace: str, name: str, run_id: str) -> JobRun | None:
    try:
        UUID(run_id)
    except ValueError:
        return None
    return JobRun(namespace, name, run_id) if namespace and name else None
