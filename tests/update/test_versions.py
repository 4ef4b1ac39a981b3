"""Tests of every supported version of copier: the README's command verbatim, then an update, from the shell."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pexpect
import pytest

from tests.update.edits import EDITS
from tools.releases import CHANGES, FIRST, SECOND, commit, conflicts, git, release, tree
from tools.rendering import REPOSITORY, run

PUBLIC = "https://github.com/org/floe-template.git"
COMMAND = "copier copy gh:org/floe-template my-pipeline"
RANGE = re.search(r'"(copier>=([\d.]+),[^"]+)"', (REPOSITORY / "pyproject.toml").read_text())
assert RANGE is not None
VERSIONS = {
    "newest": (RANGE[1],),
    "minimum": (f"copier=={RANGE[2]}",),
    # Beside dbt copier gets a pathspec that reads `_exclude` otherwise: `dbt/*` matches all below, with pathspec 1 not.
    "minimum beside dbt": (f"copier=={RANGE[2]}", "pathspec<1"),
}


@pytest.fixture(scope="module", params=list(VERSIONS))
def copier(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder with the program `copier` of an environment that holds nothing else."""
    environment = tmp_path_factory.mktemp("copier") / "venv"
    for command in (
        ("venv", "--quiet", environment),
        ("pip", "install", "--quiet", "--python", environment / "bin" / "python", *VERSIONS[request.param]),
    ):
        done = subprocess.run(["uv", *command], capture_output=True, text=True, check=False)
        assert 0 == done.returncode, done.stderr
    return environment / "bin"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder where the public address is a repository with one release, soon two."""
    template = release(tmp_path / "template", *CHANGES)
    git(template, "tag", "--delete", SECOND)
    (tmp_path / "gitconfig").write_text(f'[url "{template}"]\n\tinsteadOf = {PUBLIC}\n')
    return tmp_path


def environment(copier: Path, folder: Path) -> dict[str, str]:
    """Return the environment of a user who has this copier and a home of their own."""
    return {
        "PATH": f"{copier}:/usr/bin:/bin",
        "HOME": str(folder),
        "GIT_CONFIG_GLOBAL": str(folder / "gitconfig"),
        "TERM": "xterm",
    }


def test_copy_and_update(copier: Path, folder: Path) -> None:
    """A person who presses Return at each question gets a project; the next release merges with what they did."""
    assert COMMAND in (REPOSITORY / "README.md").read_text().splitlines()
    user = environment(copier, folder)
    child = pexpect.spawn(COMMAND, cwd=str(folder), env=user, encoding="utf-8", timeout=120, dimensions=(40, 200))
    while child.expect_exact(["🎤", pexpect.EOF]) == 0:
        child.send("\r")
    child.close()
    assert 0 == child.exitstatus, child.before
    project = folder / "my-pipeline"
    assert f"_commit: {FIRST}\n" in (project / ".copier-answers.yml").read_text()
    assert (project / "src" / "my_pipeline" / "floe").is_dir()
    # The edits name the package as the other tests call it.
    shutil.rmtree(project)
    copy = run(*COMMAND.split(), "--defaults", "-d", "package_name=pipeline", cwd=folder, **user)
    assert 0 == copy.returncode, copy.stderr
    commit(project)
    for edit in EDITS:
        edit.make(project)
    commit(project)

    none = run("copier", "check-update", "--quiet", cwd=project, **user)
    git(folder / "template", "tag", SECOND)
    some = run("copier", "check-update", "--quiet", cwd=project, **user)
    updated = run("copier", "update", "--defaults", cwd=project, **user)

    assert (0, 2, 0) == (none.returncode, some.returncode, updated.returncode), updated.stderr
    arrived = {change.shows[0]: change.shows[1] for change in CHANGES if change.shows}
    assert {edit.kind: edit.expected for edit in EDITS} == {
        edit.kind: edit.outcome(project, arrived.get(edit.path)) for edit in EDITS
    }
    assert conflicts(project) == {edit.path for edit in EDITS if edit.expected == "conflict"}
    assert f"_commit: {SECOND}\n" in tree(project)[".copier-answers.yml"]
