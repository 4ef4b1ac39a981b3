"""Tests of an owner's mistakes on a running engine: each fails the run with an error that names the variable.

Of a wrong port or secret dbt's adapters know only the value, and some do not tell that: the project itself adds which
variables the output reads, and what they are set to.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator

import pytest

from tools.engines.process import free_port
from tools.engines.project import Project
from tools.rendering import facts

# Snowflake's driver alone tries eleven times, for 70 seconds on an idle machine, whatever the profile says.
SECONDS = 300
# Databricks' client looks for a host that is not there for five minutes, and no key of the profile changes that.
# It names the address at once.
PATIENT = {"databricks": 30}
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


def launch(project: Project, **changed: str) -> str:
    """Build one seed through Dagster, which is to fail; return what it printed."""
    done = project.run("dg", "launch", "--assets", "countries", seconds=SECONDS, changed=changed)
    assert done.returncode != 0, done.stdout
    return done.stdout.replace('\\"', '"')  # as it stood before it became JSON


def interrupted_dbt(project: Project, seconds: float, **changed: str) -> str:
    """Run dbt for `seconds` on an engine that it would go on looking for; return what it printed."""
    line = ("dbt", "--no-use-colors", *SEED, "--project-dir", "dbt", "--profiles-dir", "dbt")
    with pytest.raises(subprocess.TimeoutExpired) as expired:
        project.run(*line, seconds=seconds, changed=changed)
    return bytes(expired.value.output).decode()


def test_wrong_port(running_project: Project, wrong_port: int) -> None:
    """An engine that is not there ends the run with the name and the value of the variable that leads to it."""
    engine = running_project.engine
    if not engine.port:
        said = launch(running_project, DUCKDB_PATH="/no/such/folder/file.duckdb")
        assert "DUCKDB_PATH=/no/such/folder/file.duckdb" in said
        return
    right, wrong = str(engine.port), str(wrong_port)
    changed = {name: value.replace(right, wrong) for name, value in running_project.variables.items()}
    if seconds := PATIENT.get(running_project.target):
        assert wrong in interrupted_dbt(running_project, seconds, **changed)
        return

    said = launch(running_project, **changed)

    read = re.search(r"Its output dev reads ([^\n]*)", said)
    assert read, said
    known = facts(running_project.target)["variables"]
    # A stand-in's port that no variable of the target leads to (Snowflake's, BigQuery's) leaves the others to name.
    leading = [f"{name}={value}" for name, value in changed.items() if wrong in value and name in known]
    assert [] == [text for text in leading if text not in read[1]]
    assert [] == [name for name in required(running_project) if name not in read[1]]


def required(project: Project) -> list[str]:
    """Return the variables that the profile asks for without a default."""
    profiles = (project.root / "dbt" / "profiles.yml").read_text()
    return sorted(set(re.findall(r"env_var\('(\w+)'\)", profiles)))


def test_missing_variable(running_project: Project) -> None:
    """A required variable that is not set is named, before anything is built."""
    names = required(running_project)
    if running_project.target == "duckdb":
        assert names == []  # a file needs none
        return

    done = running_project.run("dg", "launch", "--assets", "*", changed={names[0]: None})

    assert done.returncode != 0
    assert f"Env var required but not provided: '{names[0]}'" in done.stdout


def test_wrong_secret(running_project: Project) -> None:
    """Where the engine checks a secret, a wrong one is refused in so many words, its variable named, its value not."""
    name = running_project.engine.checks_secret
    assert (name is not None) is (running_project.target in REFUSALS)
    if name is None:
        return

    said = launch(running_project, **{name: WRONG_SECRET})

    assert REFUSALS[running_project.target] in said
    assert f"{name} (set)" in said
    assert WRONG_SECRET not in said
