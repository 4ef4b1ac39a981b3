"""The requirements of a release before it is tagged, and its notes: `uvx nox -s release-check`.

`python -m tools.release check | write | notes`: check, write tests/released/<version>.yml, print the release's notes.
"""

from __future__ import annotations

import re
import sys
import tempfile
import tomllib
from pathlib import Path

from packaging.version import Version

from tools.contract import Contract, contract, released, write
from tools.releases import git
from tools.rendering import REPOSITORY, snapshot


def version_of(repository: Path) -> str:
    """Return the version that pyproject.toml states."""
    return str(tomllib.loads((repository / "pyproject.toml").read_text())["project"]["version"])


def notes(changelog: str, version: str) -> str:
    """Return what a changelog says of a version; blank if it has no dated section of that name."""
    found = re.search(
        rf"^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d\n(.*?)(?=^## |\Z)", changelog, re.DOTALL | re.MULTILINE
    )
    return found[1].strip() if found else ""


def problems(repository: Path, promised: Contract | None, now: Contract) -> list[str]:
    """Return a line for each thing that keeps what lies in a repository from being released, with the next step.

    `promised` is what tests/released/ holds for its version, `now` what the template promises as it lies.
    """
    version, changelog = version_of(repository), (repository / "CHANGELOG.md").read_text()
    tags = {tag.removeprefix("v") for tag in git(repository, "tag", "--list", "v*").split()}
    here = {tag.removeprefix("v") for tag in git(repository, "tag", "--points-at", "HEAD").split()}
    others = sorted((Version(tag) for tag in tags - {version}), reverse=True)
    lines = []
    if git(repository, "status", "--porcelain"):
        lines.append("the work tree is not clean: commit, or remove what does not belong to the release")
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        lines.append(f"pyproject.toml's version {version} is no X.Y.Z, which copier sorts tags by: correct it")
    elif others and Version(version) < others[0]:
        lines.append(f"pyproject.toml's version {version} is below the tag v{others[0]}: raise it")
    if here - {version}:
        lines.append(f"the tag here is v{', v'.join(sorted(here))}, pyproject.toml's version {version}: make them one")
    if version in tags - here:
        lines.append(f"the tag v{version} is on another commit: raise pyproject.toml's version; a tag never moves")
    if not notes(changelog, version):
        lines.append(f"CHANGELOG.md has nothing under '## [{version}] - <date>': move what is under Unreleased there")
    if notes_left := re.search(r"^## \[Unreleased\]\n(.*?)(?=^## |\Z)", changelog, re.DOTALL | re.MULTILINE):
        if notes_left[1].strip():
            lines.append(f"CHANGELOG.md still has entries under Unreleased: move them to {version}")
    else:
        lines.append("CHANGELOG.md has no section '## [Unreleased]': add it on top, empty")
    if promised != now:
        lines.append(f"tests/released/{version}.yml is missing or old: `uvx nox -s release-check -- write`, commit")
    return lines


def main(command: str) -> None:
    """Check, write or print for the version that pyproject.toml states."""
    version = version_of(REPOSITORY)
    if command == "notes":
        print(notes((REPOSITORY / "CHANGELOG.md").read_text(), version))
        return
    with tempfile.TemporaryDirectory() as folder:
        now = contract(snapshot(Path(folder)))
    if command == "write":
        write(now, version)
    elif lines := problems(REPOSITORY, released().get(version), now):
        sys.exit("\n".join(lines))


if __name__ == "__main__":
    main(sys.argv[1])
