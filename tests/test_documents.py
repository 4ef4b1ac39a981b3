"""Tests of what maintainers look for: documents, the issue form, updates of actions, the licence."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.parsing import anchors, links
from tools.readme import ISSUE_FORM, with_targets
from tools.rendering import REPOSITORY, facts, render, run, snapshot

GITHUB = REPOSITORY / ".github"
DECISIONS = REPOSITORY / "docs" / "decisions"
# Where links are followed: not under template/, whose files are tested as rendered.
DOCUMENTS = [
    *sorted(REPOSITORY.glob("*.md")),
    *sorted((REPOSITORY / "docs").rglob("*.md")),
    *sorted((REPOSITORY / "benchmarks").glob("*.md")),
]


def broken_links(document: Path) -> list[str]:
    """Return the relative links of a Markdown file that lead to no file, or to no heading of one."""
    broken = []
    for link in links(document.read_text()):
        name, _, anchor = link.partition("#")
        target = document.parent / name if name else document
        if "://" in link or (target.exists() and not anchor):
            continue
        if not target.is_file() or anchor not in anchors(target.read_text()):
            broken.append(link)
    return broken


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(REPOSITORY).as_posix())
def test_links(document: Path) -> None:
    """Each relative link leads to a file of the repository, and its anchor to a heading there."""
    assert [] == broken_links(document)


def test_broken_links(tmp_path: Path) -> None:
    """A missing file and a missing heading are found; an existing one and another site are not."""
    document = tmp_path / "page.md"
    document.write_text(
        "# A `b`: c\n\n[1](#a-b-c) [2](#a) [3](gone.md) [4](page.md#gone) [5](page.md) [6](http://x/#y)\n"
    )

    assert ["#a", "gone.md", "page.md#gone"] == broken_links(document)


class TestDecisions:
    """docs/decisions/."""

    FILES = sorted(DECISIONS.glob("[0-9]*.md"))

    def test_index(self) -> None:
        """The index lists each decision with its title, in order, and the numbers have no gap."""
        index = [line for line in (DECISIONS / "README.md").read_text().splitlines() if re.match(r"\d+\. ", line)]
        titles = [file.read_text().splitlines()[0].removeprefix("# ") for file in self.FILES]
        expected = [
            re.sub(r"^(\d+)\. (.*)", rf"\1. [\2]({file.name})", title)
            for file, title in zip(self.FILES, titles, strict=True)
        ]

        assert expected == index
        assert list(range(1, len(expected) + 1)) == [int(file.name[:4]) for file in self.FILES]
        assert [int(file.name[:4]) for file in self.FILES] == [int(title.split(".")[0]) for title in titles]

    @pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
    def test_form(self, file: Path) -> None:
        """A decision has its three sections and is about half a page long."""
        text = file.read_text()

        assert ["Context", "Decision", "Consequences"] == re.findall(r"^## (.*)", text, re.MULTILINE)
        assert 100 < len(text.split()) < 300


class TestIssueForm:
    """.github/ISSUE_TEMPLATE/bug.yml."""

    FORM: dict[str, Any] = yaml.safe_load(ISSUE_FORM.read_text())

    def element(self, name: str) -> dict[str, Any]:
        """Return the form's element with an id."""
        [element] = [element for element in self.FORM["body"] if element.get("id") == name]
        found: dict[str, Any] = element
        return found

    def test_schema(self) -> None:
        """GitHub's schema of issue forms passes."""
        done = run("check-jsonschema", "--builtin-schema", "vendor.github-issue-forms", ISSUE_FORM, cwd=REPOSITORY)

        assert 0 == done.returncode, done.stdout

    def test_targets(self) -> None:
        """The form offers each target that has a facts file, under its title, and no other."""
        targets = [path.stem for path in (REPOSITORY / "extensions" / "targets").glob("*.yml")]

        assert sorted(facts(target)["title"] for target in targets) == sorted(
            self.element("target")["attributes"]["options"]
        )

    def test_written(self) -> None:
        """`nox -s readme` writes that list."""
        text = ISSUE_FORM.read_text()
        without = re.sub(r"^        - .*\n", "", text, flags=re.MULTILINE)

        assert text == with_targets(text) == with_targets(without)
        assert text != without

    def test_doctor(self, project: Path) -> None:
        """The doctor takes the option that the form asks to run it with."""
        description = self.element("doctor")["attributes"]["description"]
        [arguments] = re.findall(r"`uv run floe (.+?)`", description)
        command, option = arguments.split()
        call = "import sys; from pipeline.floe.cli.main import main; sys.exit(main())"

        done = run("python", "-c", call, command, "--help", cwd=project, PYTHONPATH="src")

        assert 0 == done.returncode, done.stderr
        assert option in done.stdout


class TestDependabot:
    """.github/dependabot.yml of both products."""

    def directories(self, file: Path) -> dict[str, list[str]]:
        """Return the folders that Dependabot looks into, by ecosystem."""
        updates = yaml.safe_load(file.read_text())["updates"]
        return {
            update["package-ecosystem"]: [
                *update.get("directories", []),
                *([update["directory"]] if "directory" in update else []),
            ]
            for update in updates
        }

    def test_every_workflow(self) -> None:
        """Dependabot looks into each folder with workflows: at the root by itself, elsewhere into the folder named."""
        patterns = self.directories(GITHUB / "dependabot.yml")["github-actions"]
        # "/" stands for the folder in which GitHub itself looks.
        relative = [pattern.strip("/") or ".github/workflows" for pattern in patterns]
        named = {path for pattern in relative for path in REPOSITORY.glob(pattern)}
        folders = {Path(root) for root, _, _ in os.walk(REPOSITORY / "template") if root.endswith(".github/workflows")}

        assert {REPOSITORY / ".github" / "workflows", *folders} == named
        assert len(folders) > 1

    def test_project(self, project: Path) -> None:
        """A project's own settings cover its workflows, pyproject.toml, Dockerfile and compose.yaml, at the root."""
        ecosystems = ("uv", "github-actions", "docker", "docker-compose")
        assert {name: ["/"] for name in ecosystems} == self.directories(project / ".github" / "dependabot.yml")
        assert all((project / name).is_file() for name in ("pyproject.toml", "Dockerfile", "compose.yaml"))


class TestLicence:
    """MIT-0."""

    def test_said(self, project: Path) -> None:
        """The licence is MIT-0, and both READMEs say so."""
        licence = (REPOSITORY / "LICENSE").read_text()

        assert licence.startswith("MIT No Attribution\n")
        assert "shall be included" not in licence  # the condition that MIT has
        for readme in (REPOSITORY / "README.md", project / "README.md"):
            assert "MIT-0" in readme.read_text(), readme

    def test_not_rendered(self, tmp_path: Path) -> None:
        """Nothing beside template/ is rendered: a project has neither our licence nor our other papers."""
        template = snapshot(tmp_path / "template")
        for name in (".github", "docs"):
            shutil.copytree(REPOSITORY / name, template / name)
        for path in (REPOSITORY / "LICENSE", *REPOSITORY.glob("*.md")):
            shutil.copy(path, template)

        project = render(template, tmp_path / "project", project_name="pipeline")

        names = {path.relative_to(project).as_posix() for path in project.rglob("*") if path.is_file()}
        assert set() == {
            name for name in names if re.search("licen[cs]e|security|contributing|decisions|ISSUE", name, re.IGNORECASE)
        }
        page = Path("docs", "architecture.md")
        assert (REPOSITORY / "template" / page).read_text() == (project / page).read_text()
