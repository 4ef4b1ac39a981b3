"""Mistakes that an owner makes, on a running engine: each ends the run with an error that says where to look.

A missing variable is named. Of the others dbt's adapters know only the values: they name the host and port, or the
user that was refused, and none names a variable.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator

import pytest

from tests.engines.process import free_port
from tests.engines.project import Project

SECONDS = 120  # Snowflake's driver tries for 35, whatever the profile says
# Databricks' client looks for a host that is not there for five minutes, and no key of the profile changes that.
# It names the address at once.
PATIENT = {"databricks": 30}
# Whose error for a server that is not there has no address: `dbt debug` shows it.
WITHOUT_ADDRESS = {"redshift", "snowflake"}
SEED = ("seed", "--select", "countries")  # the least that connects
WRONG_SECRET = "not the right one"
REFUSALS = {
    "postgres": 'password authentication failed for user "analyst"',
    "redshift": 'password authentication failed for user "analyst"',
    "databricks": "Invalid access token",
}


@pytest.fixture
def wrong_port(running_project: Project) -> Iterator[int]:
    """Point the profile, where it has a stand-in's port, to one that nobody listens on."""
    profiles = running_project.root / "dbt" / "profiles.yml"
    text = profiles.read_text()
    port = free_port()
    profiles.write_text(text.replace(f"{running_project.engine.port}", f"{port}"))
    yield port
    profiles.write_text(text)


def dbt(project: Project, *command: str, **changed: str) -> str:
    """Run a dbt command that is to fail, not for ever; return what it printed."""
    seconds = PATIENT.get(project.target, SECONDS)
    line = ("dbt", "--no-use-colors", *command, "--project-dir", "dbt", "--profiles-dir", "dbt")
    try:
        done = project.run(*line, seconds=seconds, changed=changed)
    except subprocess.TimeoutExpired as expired:
        if project.target not in PATIENT:
            raise
        return bytes(expired.output).decode()
    assert done.returncode != 0, done.stdout
    return done.stdout


def test_wrong_port(running_project: Project, wrong_port: int) -> None:
    """An engine that is not there is named by its address: by the run, or by `dbt debug`; a file by its path."""
    engine = running_project.engine
    if not engine.port:
        assert "/no/such/folder/file.duckdb" in dbt(running_project, *SEED, DUCKDB_PATH="/no/such/folder/file.duckdb")
        return
    right, wrong = str(engine.port), str(wrong_port)
    changed = {name: value.replace(right, wrong) for name, value in running_project.variables.items()}

    said = dbt(running_project, *SEED, **changed)

    assert (wrong in said) is (running_project.target not in WITHOUT_ADDRESS), said
    if wrong not in said:
        assert wrong in dbt(running_project, "debug", **changed)


def test_missing_variable(running_project: Project) -> None:
    """A required variable that is not set is named, before anything is built."""
    profiles = (running_project.root / "dbt" / "profiles.yml").read_text()
    required = sorted(set(re.findall(r"env_var\('(\w+)'\)", profiles)))
    if running_project.target == "duckdb":
        assert required == []  # a file needs none
        return

    done = running_project.run("dg", "launch", "--assets", "*", changed={required[0]: None})

    assert done.returncode != 0
    assert f"Env var required but not provided: '{required[0]}'" in done.stdout


def test_wrong_secret(running_project: Project) -> None:
    """Where the engine checks a secret, a wrong one is refused in so many words, and is not shown."""
    name = running_project.engine.checks_secret
    assert (name is not None) is (running_project.target in REFUSALS)
    if name is None:
        return

    said = dbt(running_project, *SEED, **{name: WRONG_SECRET})

    assert REFUSALS[running_project.target] in said
    assert WRONG_SECRET not in said
