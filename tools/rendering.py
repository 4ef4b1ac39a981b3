"""The rendering of the template in the working tree, from which every test starts."""

from __future__ import annotations

import os
import pickle
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import copier
import jinja2
import yaml
from plumbum import local

REPOSITORY = Path(__file__).parent.parent
TARGETS: list[str] = yaml.safe_load((REPOSITORY / "copier.yml").read_text())["targets"]["default"]


@cache
def facts(target: str) -> dict[str, Any]:
    """Return what `extensions/targets/<target>.yml` says of a target."""
    text = (REPOSITORY / "extensions" / "targets" / f"{target}.yml").read_text()
    loaded: dict[str, Any] = yaml.safe_load(text)
    return loaded


def sign_ins() -> list[tuple[str, str]]:
    """Return every pair of target and auth_method that the questions offer."""
    return [(target, method["name"]) for target in TARGETS for method in facts(target)["auth_methods"]]


def snapshot(folder: Path) -> Path:
    """Copy the template without its git history to `folder`: copier then renders what lies there, not a tag."""
    for name in ("copier.yml", "extensions", "template"):
        source, copy = REPOSITORY / name, folder / name
        if source.is_dir():
            shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__", ".*_cache"))
        else:
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, copy)
    return folder


def render(template: Path, destination: Path, **answers: Any) -> Path:
    """Render `template` to `destination` with its defaults and `answers`.

    The template refuses a `dbt_project_dir` without a dbt project. If there is none, an empty `dbt_project.yml` lies
    there while the template is rendered.

    Raises:
        ValueError: An answer is refused, or is no question of copier.yml (copier takes unknown keys in silence).
    """
    # Neither a snapshot nor what it renders is a repository: without git, copier does not ask it about each file.
    path = os.environ["PATH"] if (template / ".git").exists() else ""
    with _remembering(), _dbt_project(destination, answers), local.env(PATH=path):
        questions = yaml.safe_load((template / "copier.yml").read_text())
        if unknown := answers.keys() - questions.keys():
            msg = f"no such question in copier.yml: {', '.join(sorted(unknown))}"
            raise ValueError(msg)
        copier.run_copy(str(template), destination, data=answers, defaults=True, quiet=True)
    return destination


@contextmanager
def _dbt_project(destination: Path, answers: Mapping[str, Any]) -> Iterator[None]:
    folder = str(answers.get("dbt_project_dir", "transform"))
    file = destination / folder / "dbt_project.yml"
    is_folder = re.fullmatch(r"[\w.-]{1,99}(/[\w.-]{1,99})*", folder, re.ASCII)
    if answers.get("start_from") != "existing" or not is_folder or file.exists():
        yield
        return
    made = [path for path in (file.parent, *file.parent.parents) if not path.exists()]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    try:
        yield
    finally:
        file.unlink()
        for path in made:
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()


_COMPILED: dict[tuple[object, ...], Any] = {}
_READ: dict[str, bytes] = {}


@contextmanager
def _remembering() -> Iterator[None]:
    """Compile each Jinja source, and read each YAML text, once a process: three quarters of copier's time."""
    compile_template, safe_load = jinja2.Environment.compile, yaml.safe_load

    def compile_once(self: jinja2.Environment, *source: Any, **options: Any) -> Any:
        key = (*source, *sorted(options.items()))
        if key not in _COMPILED:
            _COMPILED[key] = compile_template(self, *source, **options)
        return _COMPILED[key]

    def load_once(stream: Any) -> Any:
        if not isinstance(stream, str):
            return safe_load(stream)
        if stream not in _READ:
            _READ[stream] = pickle.dumps(safe_load(stream))
        return pickle.loads(_READ[stream])

    with (
        mock.patch.object(jinja2.Environment, "compile", compile_once),
        mock.patch.object(yaml, "safe_load", load_once),
    ):
        yield


def run(*command: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command in `cwd` with only PATH, HOME and `environment` set, and capture what it prints."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=kept | environment,
        capture_output=True,
        text=True,
        check=False,
    )


if __name__ == "__main__":
    import sys
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        render(snapshot(Path(folder)), Path(sys.argv[1]), project_name="pipeline")
