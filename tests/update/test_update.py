"""Tests of `copier update` for every target: the result equals a new project, and the owner's changes are kept."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.update.edits import EDITS
from tools.releases import (
    CHANGES,
    FIRST,
    OWNERS,
    OWNERS_PATHS,
    answers_of,
    commit,
    conflicts,
    fresh,
    git,
    release,
    start,
    switch,
    tree,
    update,
)
from tools.rendering import REPOSITORY, TARGETS


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a repository with two releases of the template."""
    return release(tmp_path_factory.mktemp("releases") / "template", *CHANGES)


@pytest.fixture(scope="module", params=TARGETS)
def first(request: pytest.FixtureRequest, releases: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a project of the first release; do not change it."""
    return start(releases, tmp_path_factory.mktemp("first") / "project", compute_target=request.param)


@pytest.fixture
def project(first: Path, tmp_path: Path) -> Path:
    """Return a project of the first release."""
    return shutil.copytree(first, tmp_path / "project")


def test_updated_is_fresh(
    releases: Path, project: Path, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """An untouched project, updated, is what the second release renders, with each change; twice is as good as once."""
    owners = {name: text for name, text in tree(project).items() if OWNERS.match_file(name)}

    update(project)

    updated = tree(project)
    assert fresh(releases, tmp_path / "fresh", project) == tree(project, owners=False)
    assert owners == {name: text for name, text in updated.items() if OWNERS.match_file(name)}
    for change in CHANGES:
        if change.shows:
            path, text = change.shows
            assert text in updated[path], change.kind
            record_property(f"template: {change.kind}", text)
        else:
            record_property(f"template: {change.kind}", "left out")
    commit(project)
    update(project)
    assert "" == git(project, "status", "--porcelain")


def test_edits(project: Path, record_property: Callable[[str, object], None]) -> None:
    """What the owner has done is kept, merged, or a conflict that git shows."""
    for edit in EDITS:
        edit.make(project)
    commit(project)

    update(project)

    arrived = {change.shows[0]: change.shows[1] for change in CHANGES if change.shows}
    outcomes = {edit.kind: edit.outcome(project, arrived.get(edit.path)) for edit in EDITS}
    assert {edit.kind: edit.expected for edit in EDITS} == outcomes
    for kind, outcome in outcomes.items():
        record_property(f"owner: {kind}", outcome)
    assert conflicts(project) == {edit.path for edit in EDITS if edit.expected == "conflict"}


def test_switched_target(releases: Path, project: Path, tmp_path: Path) -> None:
    """With the target switched to the next one, a project is what that renders. All pairs: tests/update/."""
    target = answers_of(project)["compute_target"]
    other = TARGETS[(TARGETS.index(target) + 1) % len(TARGETS)]

    switch(project, compute_target=other)

    assert other == answers_of(project)["compute_target"]
    assert fresh(releases, tmp_path / "fresh", project, FIRST) == tree(project, owners=False)


def test_owners_paths_are_left_out_of_updates() -> None:
    """`_skip_if_exists` and the conditional part of `_exclude` name these paths and no other."""
    settings = yaml.safe_load((REPOSITORY / "copier.yml").read_text())
    condition = "{% if _copier_operation == 'update' %}"

    assert OWNERS_PATHS == settings["_skip_if_exists"]
    assert OWNERS_PATHS == [
        pattern.removeprefix(condition).removesuffix("{% endif %}")
        for pattern in settings["_exclude"]
        if pattern.startswith(condition)
    ]
