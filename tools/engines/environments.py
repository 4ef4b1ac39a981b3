"""Environments for the packages of a single engine, each from a dependency group `engine-<name>` of pyproject.toml.

They are apart because the groups contradict one another and the adapters (three versions of DuckDB, two of Spark).
"""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path

from tools.engines import EngineError
from tools.rendering import REPOSITORY

FOLDER = REPOSITORY / ".nox" / "engines"


@cache
def python_of(name: str) -> Path:
    """Return the Python of the environment with the group `engine-<name>`, made or brought up to date by uv.

    Raises:
        EngineError: uv is missing or cannot install the group.
    """
    environment = FOLDER / name
    python = environment / "bin" / "python"
    if not python.exists():
        _uv("venv", "--clear", "--python", sys.executable, environment)
    _uv("pip", "install", "--python", python, "--group", f"{REPOSITORY / 'pyproject.toml'}:engine-{name}")
    return python


def site_packages(python: Path) -> Path:
    """Return the folder that the packages of an environment lie in."""
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    return Path(done.stdout.strip())


def version_of(python: Path, distribution: str) -> str:
    """Return the version of a distribution in an environment."""
    code = f"from importlib.metadata import version; print(version({distribution!r}))"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _uv(*arguments: str | Path) -> None:
    try:
        done = subprocess.run(["uv", "--quiet", *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        msg = "uv is not on PATH: pip install uv"
        raise EngineError(msg) from error
    if done.returncode:
        msg = f"uv {' '.join(map(str, arguments))}: {done.stderr.strip()[-2000:]}"
        raise EngineError(msg)
