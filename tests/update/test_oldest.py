"""Test of an update from the oldest supported release, a tag of this repository, to the working tree."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from packaging.version import Version

from tests.update.edits import EDITS
from tools.contract import released
from tools.releases import commit, conflicts, fresh, git, start, tree, update
from tools.rendering import REPOSITORY, TARGETS, snapshot

NEXT = "v9999.0.0"


def oldest() -> str:
    """Return the tag of the oldest release that tests/released/ holds."""
    versions = sorted(released(), key=Version)
    if not versions:
        pytest.skip("nothing is released yet: tests/released/ is empty")
    return f"v{versions[0]}"


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return this repository's history with the template as it lies as a release on top."""
    clone = tmp_path_factory.mktemp("history") / "template"
    assert oldest() in git(REPOSITORY, "tag").split(), f"no tag {oldest()} here: git fetch --tags"
    git(REPOSITORY, "clone", "--quiet", str(REPOSITORY), str(clone))
    for name in ("extensions", "template"):
        shutil.rmtree(clone / name)
    snapshot(clone)
    commit(clone)
    git(clone, "tag", NEXT)
    return clone


@pytest.mark.parametrize("target", TARGETS)
def test_updated(releases: Path, tmp_path: Path, target: str) -> None:
    """An untouched project is what the template now renders; an edited one has lost nothing."""
    project = start(releases, tmp_path / "project", oldest(), compute_target=target)
    edited = shutil.copytree(project, tmp_path / "edited")
    for edit in EDITS:
        if edit.pattern is None or (edited / edit.path).exists():
            edit.make(edited)
    commit(edited)

    update(project, NEXT)
    update(edited, NEXT)

    assert fresh(releases, tmp_path / "fresh", project, NEXT) == tree(project, owners=False)
    outcomes = {edit.kind: edit.outcome(edited) for edit in EDITS}
    assert [] == [kind for kind, outcome in outcomes.items() if outcome in {"lost", "came back"}]
    assert conflicts(edited) <= {edit.path for edit in EDITS}
