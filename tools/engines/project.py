"""A target's rendered sample project with its running engine, from which builds and recordings start."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tools.engines import Engine, Rows, engine_for, running
from tools.rendering import facts, render

INSTALL_SECONDS = 600
BUILD_SECONDS = 300
# Nothing but this machine is reached: what a driver looks up elsewhere (Google's, whatever the key) ends at once.
NOWHERE = "http://127.0.0.1:9"
LOOPBACK_ONLY = {"HTTP_PROXY": NOWHERE, "HTTPS_PROXY": NOWHERE, "NO_PROXY": "localhost,127.0.0.1"}


@dataclass(frozen=True)
class Project:
    """A project, installed, and its engine, started.

    Attributes:
        root: Folder of the project.
        target: Name of the target.
        engine: What runs.
        variables: Environment variables with which the output `dev` reaches it.
    """

    root: Path
    target: str
    engine: Engine
    variables: dict[str, str]

    def run(
        self, *command: str, seconds: float = BUILD_SECONDS, changed: Mapping[str, str | None] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the project's environment; what it prints comes back as one text.

        Args:
            command: As an owner of the project would type it after `uv run`.
            seconds: When to give up.
            changed: Variables that differ from `variables`; None leaves one out.

        Raises:
            subprocess.TimeoutExpired: It takes longer than `seconds`.
        """
        variables = {name: value for name, value in (self.variables | dict(changed or {})).items() if value is not None}
        environment = {
            name: value for name, value in _environment(self.target).items() if not name.lower().endswith("_proxy")
        }
        environment |= {"DBT_TARGET": "dev", "DAGSTER_CLI_TELEMETRY": "0"} | LOOPBACK_ONLY | variables
        return _run(["uv", "run", *command], self.root, environment, seconds)

    def materialize(self) -> subprocess.CompletedProcess[str]:
        """Build everything through Dagster, as the README has it."""
        return self.run("dg", "launch", "--assets", "*")

    def query(self, sql: str) -> Rows:
        """Ask the engine, past dbt; `{}` stands before the name of a table."""
        return self.engine.query(sql.format(f"{self.engine.schema}."))


@contextmanager
def project_of(target: str, template: Path, folder: Path) -> Iterator[Project]:
    """Render the sample project of a target to `folder`, install it as a user would, and start its engine.

    Raises:
        EngineError: The engine cannot start.
        AssertionError: The project cannot be installed; the message has uv's.
    """
    engine = engine_for(target)
    answers = {"auth_method": engine.auth_method} if engine.auth_method else {}
    root = render(template, folder, project_name="shop", compute_target=target, **answers)
    with running(engine) as variables:
        done = _run(["uv", "sync", "--quiet"], root, _environment(target), INSTALL_SECONDS)
        assert done.returncode == 0, done.stdout
        engine.python = root / ".venv" / "bin" / "python"
        add_to_profile(root / "dbt" / "profiles.yml", engine)
        yield Project(root, target, engine, variables)


def add_to_profile(profiles: Path, engine: Engine) -> None:
    """Write the keys of `engine.profile` into the output `dev`; nothing where it has none."""
    text = profiles.read_text()
    head, dev, rest = re.split(r"(?<= dev: &dev\n)|(?=\n\n)", text.partition("outputs:")[2], maxsplit=2)
    for key, value in engine.profile.items():
        dev = re.sub(rf"(?m)^      {key}: .*\n", "", dev + "\n").rstrip("\n") + f"\n      {key}: {json.dumps(value)}"
    profiles.write_text(text.partition("outputs:")[0] + "outputs:" + head + dev + rest)


def _environment(target: str) -> dict[str, str]:
    """Return this process's environment without what would reach into the project's."""
    names = set(facts(target)["variables"])
    names.update(*(method.get("variables", {}) for method in facts(target)["auth_methods"]))
    foreign = re.compile("DBT_|DAGSTER_|DUCKDB_|OPENLINEAGE_|OTEL_|PYTHON|VIRTUAL_ENV|UV_PROJECT|FLOE_|PYTEST")
    return {name: value for name, value in os.environ.items() if name not in names and not foreign.match(name)}


def _run(
    command: list[str], folder: Path, environment: dict[str, str], seconds: float
) -> subprocess.CompletedProcess[str]:
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment | {"UV_PYTHON": sys.executable},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # so that what it starts can be ended with it
    )
    try:
        output, _ = process.communicate(timeout=seconds)
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise
    return subprocess.CompletedProcess(command, process.returncode, output)
