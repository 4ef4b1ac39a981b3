"""Tests of docs/platform.md as a platform team follows it: its defaults file, and many projects without questions."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import copier
import pytest
import yaml
from jinja2.exceptions import FilterArgumentError

from tools.releases import answers_of, commit, git, release
from tools.rendering import REPOSITORY, render, run

PAGE = (REPOSITORY / "docs" / "platform.md").read_text()
PUBLIC = "https://github.com/org/floe-template.git"


def block(language: str, start: str) -> str:
    """Return the first block of code on the page in a language that starts with some text."""
    found = re.search(rf"```{language}\n({re.escape(start)}.*?)```", PAGE, re.DOTALL)
    assert found, f"docs/platform.md has no {language} block that starts with {start}"
    return found[1]


DEFAULTS: dict[str, Any] = yaml.safe_load(block("yaml", "owner:"))


def test_ten_projects(template: Path, tmp_path: Path) -> None:
    """Ten projects in a row, nothing asked: each has the team's defaults and its own names."""
    for number in range(10):
        project = tmp_path / f"team-{number}-pipeline"
        copier.run_copy(str(template), project, data=DEFAULTS, defaults=True, quiet=True)

        names = {"project_name": project.name, "package_name": project.name.replace("-", "_")}
        guessed = {"start_from": "sample", "otlp_protocol": "grpc"}
        assert DEFAULTS | names | guessed == answers_of(project)


def test_commands(tmp_path: Path) -> None:
    """The page's commands, verbatim: a project from the file, and a changed default given to it later."""
    repository = release(tmp_path / "template")
    (tmp_path / "gitconfig").write_text(f'[url "{repository}"]\n\tinsteadOf = {PUBLIC}\n')
    (tmp_path / "platform.yml").write_text(yaml.safe_dump(DEFAULTS))
    user = {"GIT_CONFIG_GLOBAL": str(tmp_path / "gitconfig")}

    copied = run(*block("sh", "copier copy").split(), cwd=tmp_path, **user)
    project = tmp_path / "orders-pipeline"
    commit(project)
    (project.parent / "platform.yml").write_text(yaml.safe_dump(DEFAULTS | {"owner": "team:other"}))
    later = re.search(r"`(copier update [^`]*--data-file) platform.yml`", PAGE)
    assert later is not None
    updated = run(*later[1].split(), "../platform.yml", cwd=project, **user)

    assert (0, 0) == (copied.returncode, updated.returncode), copied.stderr + updated.stderr
    assert DEFAULTS | {"owner": "team:other"} == {name: answers_of(project)[name] for name in DEFAULTS}
    assert (project / ".github/workflows/template-update.yml").is_file()
    assert "src/orders_pipeline/floe/settings.toml" in git(project, "diff", "--name-only")


@pytest.mark.parametrize("name", ["compute_traget", "facts", "overlay"])
def test_unknown_answer(template: Path, tmp_path: Path, name: str) -> None:
    """A misspelt key, or one that is no question, is refused before anything is written: copier itself ignores it."""
    with pytest.raises(FilterArgumentError, match=f'"{name}" is not a question of this template: correct it in -d'):
        copier.run_copy(str(template), tmp_path / "project", data={name: "spark"}, defaults=True, quiet=True)

    assert not (tmp_path / "project").exists()


def test_wrong_answer_in_the_file(template: Path, tmp_path: Path) -> None:
    """A wrong value in the file stops the copy."""
    with pytest.raises(ValueError, match="compute_target"):
        render(template, tmp_path / "project", **DEFAULTS | {"compute_target": "oracle"})


def test_each_question_is_known() -> None:
    """The list of known answers is the list of questions."""
    settings = yaml.safe_load((REPOSITORY / "copier.yml").read_text())
    known = re.findall(r"'(\w+)'", settings["known_answers"]["default"].partition("refuse_unknown(")[2])

    assert known == [n for n, q in settings.items() if not n.startswith("_") and q.get("when") is not False]
