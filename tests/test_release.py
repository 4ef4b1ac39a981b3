"""Tests of what prevents a release."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tools.release import notes, problems, version_of
from tools.releases import commit, git
from tools.rendering import REPOSITORY

CHANGELOG = """# Changelog

## [Unreleased]

## [0.2.0] - 2026-12-01

### Fixed

- It.

## [0.1.0] - 2026-11-30

- All.
"""
PROMISES: dict[str, Any] = {"questions": ["owner"]}


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Return a repository that version 0.2.0 can be released from."""
    (tmp_path / "CHANGELOG.md").write_text(CHANGELOG)
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "0.1.0"\n')
    commit(tmp_path)
    git(tmp_path, "tag", "v0.1.0")
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "0.2.0"\n')
    commit(tmp_path)
    return tmp_path


def put(name: str, before: str, after: str) -> Callable[[Path], None]:
    """Return a change of a file, committed."""

    def change(repository: Path) -> None:
        text = (repository / name).read_text()
        assert before in text
        (repository / name).write_text(text.replace(before, after))
        commit(repository)

    return change


def test_good(repository: Path) -> None:
    """It can be released, before it has its tag and when it has."""
    assert [] == problems(repository, PROMISES, PROMISES)
    git(repository, "tag", "v0.2.0")
    assert [] == problems(repository, PROMISES, PROMISES)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda folder: (folder / "new.txt").touch(), "the work tree is not clean"),
        (put("pyproject.toml", "0.2.0", "0.2"), "is no X.Y.Z"),
        (put("pyproject.toml", "0.2.0", "0.0.9"), "is below the tag v0.1.0"),
        (put("pyproject.toml", "0.2.0", "0.1.0"), "the tag v0.1.0 is on another commit"),
        (lambda folder: git(folder, "tag", "v0.3.0"), "the tag here is v0.3.0"),
        (put("CHANGELOG.md", "## [0.2.0] - 2026-12-01", "## 0.2.0"), "nothing under '## [0.2.0] - <date>'"),
        (
            put("CHANGELOG.md", "## [Unreleased]\n", "## [Unreleased]\n\n- More.\n"),
            "still has entries under Unreleased",
        ),
        (put("CHANGELOG.md", "## [Unreleased]\n", ""), "no section '## [Unreleased]'"),
    ],
)
def test_kept_back(repository: Path, change: Callable[[Path], Any], told: str) -> None:
    """Each fault is named."""
    change(repository)

    assert told in "\n".join(problems(repository, PROMISES, PROMISES))


@pytest.mark.parametrize("promised", [None, {"questions": []}])
def test_promises(repository: Path, promised: dict[str, Any] | None) -> None:
    """A release without its promises, or with others, is kept back."""
    assert ["tests/released/0.2.0.yml is missing or old: `uvx nox -s release-check -- write`, commit"] == problems(
        repository, promised, PROMISES
    )


def test_notes() -> None:
    """The notes are the version's own section; this repository's changelog can be read so."""
    assert "### Fixed\n\n- It." == notes(CHANGELOG, "0.2.0")
    assert "## [Unreleased]\n" in (REPOSITORY / "CHANGELOG.md").read_text()
    assert version_of(REPOSITORY)
