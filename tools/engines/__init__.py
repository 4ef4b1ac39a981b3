"""The engines on which the targets are built: one module per target, found by the target's name.

Each module has a class `ENGINE`, an `Engine`: `start()` returns the environment variables that the rendered profile
asks for, by the names that the target's facts give them, and `stop()` leaves nothing behind. Its docstring says
whether the engine is real or stands in for one, and how it differs from the real thing.

What only an engine needs lives in an environment of its own, made on demand (environments.py).
"""

from __future__ import annotations

import json
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

Rows = list[tuple[str | None, ...]]


class EngineError(Exception):
    """An engine cannot start, or a query of its own client failed; the message says why."""


class Engine(ABC):
    """One engine.

    Attributes:
        title: What runs, as a table of results shows it.
        real: Whether that is what the target's users have; otherwise something stands in for it.
        auth_method: How the rendered project signs in; None is the target's default.
        schema: What stands before a table's name in the engine's own SQL, quoted where need be.
        profile: Keys that the output `dev` needs to reach a stand-in, besides what the facts render.
        excluded: Resource types of dbt that the engine cannot run, and why.
        checks_secret: The variable whose wrong value the engine refuses, if it checks one.
        python: Of the environment with the target's driver, for engines without a client of their own.
        port: Where clients connect; 0 if there is no server.
        folder: Where the engine keeps its files until it stops.
    """

    title: ClassVar[str]
    real: ClassVar[bool]
    auth_method: ClassVar[str | None] = None
    schema: ClassVar[str]
    excluded: ClassVar[Mapping[str, str]] = {}
    checks_secret: ClassVar[str | None] = None

    def __init__(self) -> None:
        self._folder = TemporaryDirectory(prefix=f"floe-{type(self).__name__}-", ignore_cleanup_errors=True)
        self.folder = Path(self._folder.name)
        self.profile: dict[str, Any] = {}
        self.python = Path(sys.executable)
        self.port = 0

    @abstractmethod
    def start(self) -> dict[str, str]:
        """Start the engine and return the variables that a build needs.

        Raises:
            EngineError: It did not come up in time, or something that it needs is not on this machine.
        """

    @abstractmethod
    def version(self) -> str:
        """Return the version of what runs."""

    @abstractmethod
    def query(self, sql: str) -> Rows:
        """Run one query of the engine's own dialect, past dbt, and return its rows, every value as text.

        Raises:
            EngineError: The query failed.
        """

    def stop(self) -> None:
        """Stop the engine and remove its files; works whether or not it started."""
        self._folder.cleanup()


def engine_for(target: str) -> Engine:
    """Return the engine of a target, not started."""
    engine: Engine = import_module(f"{__name__}.{target}").ENGINE()
    return engine


@contextmanager
def running(engine: Engine) -> Iterator[dict[str, str]]:
    """Start `engine`, yield its variables, and stop it whatever happens."""
    try:
        yield engine.start()
    finally:
        engine.stop()


def ask_driver(python: Path, module: str, connection: dict[str, Any], sql: str) -> Rows:
    """Run one query with a DB-API driver of another environment.

    Args:
        python: Of that environment.
        module: The driver's, e.g. `duckdb`.
        connection: What its `connect` takes.
        sql: The query.

    Raises:
        EngineError: The query failed; the message is the driver's.
    """
    request = json.dumps({"module": module, "connection": connection, "sql": sql})
    done = subprocess.run(
        # -P: the modules beside ask.py are named like the drivers.
        [python, "-P", Path(__file__).with_name("ask.py")],
        input=request,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if done.returncode:
        msg = f"{module}: {done.stderr.strip()[-2000:]}"
        raise EngineError(msg)
    return [tuple(row) for row in json.loads(done.stdout)]
