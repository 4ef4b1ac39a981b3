"""Tests of what the questions accept, refuse and ask."""

from __future__ import annotations

import keyword
import re
import sys
from pathlib import Path

import pexpect
import pytest
import yaml

from tests.combinations import questions
from tools.rendering import REPOSITORY, TARGETS, render

ASKED = {name: question for name, question in questions().items() if question.get("when") is not False}
LONG = "a" * 300
DOWN = "\x1b[B"

PACKAGES = (
    "class", "match", "json", "dagster", "1x", "my pipeline!", "Upper", "café", LONG, "../x", 'a"b', "a'b", "a\nb",
    "a\n", "{{ x }}", "{% raw %}", "", "a-b", "a__b", "_a", "a_",
)  # fmt: skip
PROJECTS = (
    "1x", "my pipeline!", "café", LONG, "../x", 'a"b', "a'b", "a\nb", "{{ x }}", "", " a", "a  b", "${x}",
)  # fmt: skip
OWNERS = (
    "data-platform", "team:", "a@b", "team:a b", "a@b.com\n", 'team:"x"', "{{ x }}", "a@b.com, c@d.com",
)  # fmt: skip
URLS = (
    "localhost:5000", "ftp://host", "http://", "http://user:secret@host", "http://host?key=1", "http://ho st",
    "http://host\n", "http://host/{{ x }}", 'http://host"', "http://host:port", "javascript:alert(1)",
)  # fmt: skip
FOLDERS = ("x/..", "/abs", "a/../b", "", "a b", "a\nb", "~", "src", "C:\\x", "a//b", "{{ x }}")
IN_REPOSITORY = ("..", "../x", "/abs", "a/../b", "", "a b", "a\nb", "~", "{{ x }}")

REFUSED = [
    *[("package_name", value) for value in PACKAGES],
    *[("project_name", value) for value in PROJECTS],
    *[("owner", value) for value in OWNERS],
    ("compute_target", "oracle"),
    ("auth_method", "kerberos"),
    ("start_from", "scratch"),
    *[(name, value) for name in ("openlineage_url", "otlp_endpoint") for value in URLS],
]
REFUSED_EXISTING = [
    *[("dbt_project_dir", value) for value in FOLDERS],
    *[("folder_in_repository", value) for value in IN_REPOSITORY],
]


def one_line(value: str) -> str:
    """Return a value as a test's id."""
    return repr(value)[:40]


class TestRefused:
    """A wrong answer is refused, says why, and leaves nothing behind."""

    @pytest.mark.parametrize(("question", "value"), REFUSED, ids=one_line)
    def test_value(self, template: Path, tmp_path: Path, question: str, value: str) -> None:
        """A value that would break the project is refused at its question."""
        self.refuse(template, tmp_path / "project", question, **{question: value})

    @pytest.mark.parametrize(("question", "value"), REFUSED_EXISTING, ids=one_line)
    def test_value_for_existing(self, template: Path, tmp_path: Path, question: str, value: str) -> None:
        """A value that would reach outside the project, or break profiles.yml, is refused at its question."""
        self.refuse(template, tmp_path / "project", question, start_from="existing", **{question: value})

    def refuse(self, template: Path, destination: Path, question: str, **answers: str) -> None:
        with pytest.raises(ValueError, match=f"(?:question|choice for) '{question}': ") as refusal:
            render(template, destination, **answers)

        first_line = str(refusal.value).partition("\n")[0]
        assert re.search(r"\be\.g\. \S|is not in \[", first_line), first_line
        assert not destination.exists()


@pytest.mark.parametrize(
    ("question", "value"),
    [
        ("project_name", "My Pipeline 2"),
        ("package_name", "shop2"),
        ("owner", "a.b+c@mail.example.co.uk"),
        ("owner", "team:data_platform.eu-1"),
        ("openlineage_url", "https://lineage.example.com:8443/api/v2"),
        ("otlp_endpoint", "http://[::1]:4317"),
    ],
)
def test_taken(template: Path, tmp_path: Path, question: str, value: str) -> None:
    """A good answer is taken and stored as it was typed."""
    project = render(template, tmp_path / "project", **{question: value})

    assert value == yaml.safe_load((project / ".copier-answers.yml").read_text())[question]


@pytest.mark.parametrize(
    ("folder", "project_name", "package_name"),
    [
        ("my-pipeline", "my-pipeline", "my_pipeline"),
        ("My_Shop.v2", "My-Shop-v2", "my_shop_v2"),
        ("2024 sales!", "sales", "sales"),
        ("class", "class", "class_pipeline"),
        ("é", "my-pipeline", "my_pipeline"),
        ("x" * 80, "x" * 50, "x" * 50),
    ],
)
def test_names_from_the_folder(
    template: Path, tmp_path: Path, folder: str, project_name: str, package_name: str
) -> None:
    """Whatever the folder is called, the defaults give a project."""
    answers = yaml.safe_load((render(template, tmp_path / folder) / ".copier-answers.yml").read_text())

    assert (project_name, package_name) == (answers["project_name"], answers["package_name"])


def test_reserved_names() -> None:
    """A package can shadow neither Python's keywords nor its standard library."""
    reserved = set(yaml.safe_load((REPOSITORY / "extensions" / "reserved_names.yml").read_text()))
    words = {*keyword.kwlist, *keyword.softkwlist, *sys.stdlib_module_names}

    assert {word for word in words if word.islower() and not word.startswith("_")} <= reserved


def test_each_target_has_facts() -> None:
    """The choices and the facts files are the same targets."""
    assert sorted(TARGETS) == sorted(path.stem for path in (REPOSITORY / "extensions" / "targets").glob("*.yml"))


@pytest.mark.parametrize("target", ["duckdb", "snowflake", "spark"])
def test_asked_in_a_terminal(template: Path, tmp_path: Path, target: str) -> None:
    """A person who takes the defaults, but for the target, meets at most ten questions and gets a project."""
    helps = {name: re.split(r"\n|\{\{", question["help"])[0] for name, question in ASKED.items()}
    child = pexpect.spawn(
        sys.executable,
        ["-m", "copier", "copy", str(template), str(tmp_path / "project")],
        encoding="utf-8",
        timeout=60,
        dimensions=(40, 200),
    )
    asked: list[str] = []
    while (index := child.expect_exact([*helps.values(), pexpect.EOF])) < len(helps):
        name = list(helps)[index]
        if name not in asked:  # a prompt is drawn again when it is answered
            asked.append(name)
            if name == "compute_target":
                child.send(DOWN * TARGETS.index(target))
            child.send("\r")
    child.close()

    answers = yaml.safe_load((tmp_path / "project" / ".copier-answers.yml").read_text())
    assert (0, target) == (child.exitstatus, answers["compute_target"])
    assert asked == [name for name in ASKED if name in answers]
    assert len(asked) <= 10


def test_questions_explain_themselves() -> None:
    """Each question that may be asked says what it changes."""
    assert [] == [name for name, question in ASKED.items() if not question.get("help")]
