"""Tests of the workflow that looks for a new release: its own steps run on real repositories, only `gh` is a fake."""

from __future__ import annotations

import os
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from tests.update.edits import EDITS
from tools.releases import CHANGES, FIRST, SECOND, commit, git, release, start
from tools.rendering import REPOSITORY, render

WORKFLOW = ".github/workflows/template-update.yml"
GH = """#!/bin/sh
for argument; do printf '%s\\n' "$argument"; done >>"$GH_LOG"
"""


class Runner:
    """Runs the workflow's steps as GitHub does, in a fresh clone of a project."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.template = release(folder / "template", *CHANGES)
        self.origin = folder / "origin.git"
        project = start(self.template, folder / "project", FIRST, update_workflow=True)
        self.steps = yaml.safe_load((project / WORKFLOW).read_text())["jobs"]["update"]["steps"]
        (folder / "bin").mkdir()
        for name, text in (("gh", GH), ("pipx", "#!/bin/sh\n")):
            (folder / "bin" / name).write_text(text)
            (folder / "bin" / name).chmod(0o755)
        self.project = project

    def run(self) -> str:
        """Run the workflow on what `project` holds, and return what `gh pr create` was told; blank if nothing."""
        commit(self.project)
        if not self.origin.exists():
            git(self.folder, "clone", "--quiet", "--bare", str(self.project), str(self.origin))
        count = len(list(self.folder.glob("clone*")))
        clone, log, output = (self.folder / f"{name}{count}" for name in ("clone", "gh", "output"))
        git(self.folder, "clone", "--quiet", "--depth=1", self.origin.as_uri(), str(clone))
        log.touch()
        output.touch()
        for step in self.steps:
            outputs = dict(line.split("=", 1) for line in output.read_text().splitlines())
            if "run" not in step or ("if" in step and not outputs.get(step["if"].rpartition(".")[2])):
                continue
            given = {
                name: value.replace("${{ steps.look.outputs.branch }}", outputs.get("branch", ""))
                for name, value in step.get("env", {}).items()
            }
            done = subprocess.run(
                ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
                cwd=clone,
                env=os.environ
                | given
                | {
                    "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
                    "GH_LOG": str(log),
                    "GITHUB_OUTPUT": str(output),
                },
                capture_output=True,
                text=True,
                check=False,
            )
            assert 0 == done.returncode, done.stdout + done.stderr
        return log.read_text().partition("pr\ncreate\n")[2]


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    """Return a project with the workflow, one release behind."""
    return Runner(tmp_path)


def test_pull_request(runner: Runner) -> None:
    """A new release becomes one pull request, once, with uv.lock up to date."""
    subprocess.run(["uv", "lock", "--quiet"], cwd=runner.project, check=True)

    told = runner.run()

    branch = f"template-update/{SECOND.removeprefix('v')}"
    assert ["--head", branch, "--title", "Update from the template to 2.0.0"] == told.splitlines()[:4]
    assert f"_commit: {SECOND}" in git(runner.origin, "show", f"{branch}:.copier-answers.yml")
    assert "<1.12.99" in git(runner.origin, "show", f"{branch}:uv.lock")
    assert "conflict" not in told
    assert "" == runner.run()


def test_conflicts(runner: Runner) -> None:
    """Conflicts are listed in the pull request and stand in its files; what the owner pushed to it stays."""
    for edit in EDITS:
        edit.make(runner.project)

    told = runner.run()

    clashes = [edit.path for edit in EDITS if edit.expected == "conflict"]
    assert "with conflicts" in told.splitlines()[3]
    assert sorted(f"- `{path}`" for path in clashes) == [line for line in told.splitlines() if line.startswith("- ")]
    branch = "template-update/2.0.0"
    assert all("<<<<<<<" in git(runner.origin, "show", f"{branch}:{path}") for path in clashes)
    before = git(runner.origin, "rev-parse", branch)
    assert "" == runner.run()
    assert before == git(runner.origin, "rev-parse", branch)


def test_up_to_date(runner: Runner) -> None:
    """Without a new release nothing is pushed and nothing is opened."""
    git(runner.template, "tag", "--delete", SECOND)

    assert "" == runner.run()
    assert [] == git(runner.origin, "branch", "--list", "template-update/*").split()


def test_range_of_copier(template: Path, tmp_path: Path) -> None:
    """The workflow runs the range of copier that the template is tested with."""
    project = render(template, tmp_path / "project", update_workflow=True)
    groups = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["dependency-groups"]
    (tested,) = (text for text in groups["render"] if text.startswith("copier"))

    assert 2 == (project / WORKFLOW).read_text().count(f"uvx --from '{tested}' copier ")
