"""The contract of a release with the projects made from it, and what the working tree breaks of it.

`tests/released/` holds the promises of each supported release, written by `uvx nox -s release-check -- write`.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

import yaml

from tools.releases import OWNERS, answers_of
from tools.rendering import REPOSITORY, render

RELEASED = REPOSITORY / "tests" / "released"
Contract = dict[str, Any]
# Questions whose defaults depend on the folder that is copied to.
FROM_SURROUNDINGS = ("dbt_project_dir", "folder_in_repository")


def contract(template: Path) -> Contract:
    """Return a template's questions, their choices and defaults, and for each start the paths that updates reach."""
    settings = yaml.safe_load((template / "copier.yml").read_text())
    questions = {
        name: question
        for name, question in settings.items()
        if not name.startswith("_") and question.get("when") is not False
    }
    methods = {
        target: [method["name"] for method in _facts(template, target)["auth_methods"]]
        for target in settings["targets"]["default"]
    }
    choices = {
        name: list(question["choices"].values())
        for name, question in questions.items()
        if isinstance(question.get("choices"), dict)
    }
    choices |= {"compute_target": list(methods)} | {f"auth_method ({name})": methods[name] for name in methods}

    defaults: dict[str, Any] = {f"auth_method ({target})": names[0] for target, names in methods.items()}
    paths = {}
    options = {name: True for name, question in questions.items() if question["type"] == "bool"}
    with tempfile.TemporaryDirectory() as folder:
        for start in choices["start_from"]:
            names: set[str] = set()
            for deployment in choices["deployment"]:
                whole = Path(folder) / start / deployment / "my-pipeline"
                chosen = {"start_from": start, "deployment": deployment, "otlp_endpoint": "http://localhost:4318"}
                render(template, whole, **chosen, **options)
                names |= {path.relative_to(whole).as_posix() for path in whole.rglob("*") if path.is_file()}
                defaults |= answers_of(whole)
            paths[start] = sorted(name for name in names if not OWNERS.match_file(name))
        defaults |= answers_of(render(template, Path(folder) / "my-pipeline"))
    for name in FROM_SURROUNDINGS:
        defaults.pop(name, None)
    return {
        "questions": sorted(questions),
        "choices": choices,
        "defaults": dict(sorted(defaults.items())),
        "paths": paths,
    }


def _facts(template: Path, target: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((template / "extensions" / "targets" / f"{target}.yml").read_text())
    return loaded


def broken(old: Contract, new: Contract, changelog: str) -> list[str]:
    """Return a line for each promise of `old` that `new` breaks, or a default that it changes untold in `changelog`."""
    lines = [f"question {name} is gone" for name in old["questions"] if name not in new["questions"]]
    for what, kind in (("choices", "choice"), ("paths", "path")):
        for name, values in old[what].items():
            left = new[what].get(name, [])
            lines += [f"{kind} {value} is gone ({name})" for value in values if value not in left]
    for name, default in old["defaults"].items():
        now = new["defaults"].get(name, default)
        told = re.search(rf"`{name.split()[0]}`.*`{re.escape(str(now))}`", changelog)
        if now != default and not told:
            lines.append(f"default of {name} is {now}, was {default}: CHANGELOG.md has to name both in backquotes")
    return lines


def released() -> dict[str, Contract]:
    """Return the promises of each supported release, by its version."""
    return {path.stem: yaml.safe_load(path.read_text()) for path in RELEASED.glob("*.yml")}


def write(promises: Contract, version: str) -> None:
    """Write the promises of a release."""
    RELEASED.mkdir(exist_ok=True)
    (RELEASED / f"{version}.yml").write_text(
        "# What this release promises. Written by `uvx nox -s release-check -- write`.\n"
        + yaml.safe_dump(promises, sort_keys=False, width=120)
    )
