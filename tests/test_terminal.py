"""Tests of how the questions look on a terminal of 80 columns, where prompts are cut at the edge.

All expected texts are rendered from copier.yml.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import copier
import jinja2
import pexpect
import pyte
import pytest
import yaml
from jinja2 import nodes

from tests.combinations import questions
from tests.test_questions import ASKED, DOWN, FOLDERS, IN_REPOSITORY, LONG, OWNERS, PACKAGES, PROJECTS, URLS
from tools.rendering import REPOSITORY, TARGETS

COLUMNS, LINES = 80, 24
POINTER = " » "
ERASE = "\x15"  # Ctrl-U
# Between them, these values break every rule of the validators.
REFUSED = {
    "project_name": PROJECTS,
    "package_name": PACKAGES,
    "owner": OWNERS,
    "start_from": ("sample",),
    "dbt_project_dir": (*FOLDERS, LONG, "nowhere"),
    "folder_in_repository": (*IN_REPOSITORY, LONG, "a//b", "."),
    "openlineage_url": URLS,
    "otlp_endpoint": URLS,
}
# One run of Copier meets the questions for a new dbt project, the other those for an existing one.
RUNS: tuple[dict[str, str], ...] = (
    {"compute_target": "snowflake", "otlp_endpoint": "http://localhost:4317"},
    {"start_from": "existing", "dbt_project_dir": "..", "folder_in_repository": "pipeline"},
)
Answers = dict[str, Any]


class Screen(pyte.Screen):
    """The screen of a terminal in which a program runs."""

    def __init__(self, *command: str) -> None:
        super().__init__(COLUMNS, LINES)
        self.child = pexpect.spawn(
            command[0],
            list(command[1:]),
            encoding="utf-8",
            env=os.environ | {"TERM": "xterm-256color"},
            dimensions=(LINES, COLUMNS),
        )
        self.stream = pyte.Stream(self)

    def write_process_input(self, data: str) -> None:
        """Answer the program's question where the cursor is."""
        self.child.send(data)

    def text(self) -> str:
        """Return the words on the screen, joined over its lines."""
        return words("\n".join(self.display))

    def shows(self, text: str, seconds: float = 20) -> None:
        """Wait until the screen shows a text whole; its words may stand on several lines."""
        end = time.monotonic() + seconds
        while words(text) not in self.text():
            assert time.monotonic() < end, f"{text!r} is not on the screen:\n" + "\n".join(self.display)
            try:
                self.stream.feed(self.child.read_nonblocking(4096, timeout=0.2))
            except pexpect.TIMEOUT:
                continue
            except pexpect.EOF:
                assert words(text) in self.text(), f"{text!r} was not shown:\n" + "\n".join(self.display)


def words(text: str) -> str:
    """Return a text with one space between words."""
    return " ".join(text.split())


class Questionnaire:
    """The questions of copier.yml, rendered with the answers so far."""

    def __init__(self, environment: jinja2.Environment, destination: Path) -> None:
        self.environment = environment
        conf = {"answers_file": ".copier-answers.yml", "data": {}, "dst_path": destination, "overwrite": False}
        self.context: Answers = {"_copier_conf": conf}

    def ask(self, answers: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield each question that is asked; then take its answer from `answers`, or its default."""
        for name, question in questions().items():
            is_asked = self.rendered(question.get("when", True)).lower() == "true"
            if is_asked:
                yield name, question
            value = answers.get(name, self.rendered(question["default"]))
            self.context[name] = value if question["type"] == "str" else yaml.safe_load(str(value))

    def rendered(self, text: Any, **more: Any) -> str:
        """Render a text of copier.yml."""
        return self.environment.from_string(str(text)).render(self.context | more)

    def choices(self, question: dict[str, Any]) -> dict[str, str]:
        """Return the choices of a question with their values."""
        choices = question["choices"]
        loaded: dict[str, str] = yaml.safe_load(self.rendered(choices)) if isinstance(choices, str) else choices
        return loaded

    def error(self, name: str, value: str) -> str:
        """Return what Copier shows if `value` is refused, or an empty string."""
        error = self.rendered(questions()[name].get("validator", ""), **{name: value}).strip()
        return f"Validation error for question '{name}': {error}" if error else ""

    def refused(self, name: str) -> dict[str, str]:
        """Return each distinct error of a question, with a value that can be typed and is refused with it."""
        errors = {self.error(name, value): value for value in REFUSED.get(name, ()) if value.isprintable()}
        return {error: value for error, value in errors.items() if error}


@pytest.fixture(scope="module")
def environment(template: Path, tmp_path_factory: pytest.TempPathFactory) -> jinja2.Environment:
    """Return the Jinja environment of the template."""
    folder = tmp_path_factory.mktemp("pretended")
    return copier.run_copy(str(template), folder, defaults=True, pretend=True, quiet=True).jinja_env


def test_on_the_screen(environment: jinja2.Environment, template: Path, tmp_path: Path) -> None:
    """Each question, each of its choices and each of its typed refusals can be read whole."""
    (tmp_path / "dbt_project.yml").touch()
    read: Answers = {}
    for number, answers in enumerate(RUNS):
        project = tmp_path / f"pipeline-{number}"
        data = {name: value for name, value in read.items() if name not in answers}
        options = [option for name, value in data.items() for option in ("-d", f"{name}={value}")]
        screen = Screen(sys.executable, "-m", "copier", "copy", *options, str(template), str(project))
        questionnaire = Questionnaire(environment, project)
        for name, question in questionnaire.ask(data | answers):
            if name not in data:
                screen.shows(questionnaire.rendered(question["help"]))
                screen.child.send(keys(screen, questionnaire, name, question, answers.get(name)))
        screen.child.expect(pexpect.EOF)
        screen.child.close()
        assert 0 == screen.child.exitstatus
        stored = yaml.safe_load((project / ".copier-answers.yml").read_text())
        read |= {name: value for name, value in stored.items() if name in ASKED}
    assert read.keys() == ASKED.keys()


def test_no_dbt_project(template: Path, tmp_path: Path) -> None:
    """Without a dbt project nearby, its folder is asked for; a wrong one is refused and can be corrected."""
    project = tmp_path / "team" / "pipeline"
    (project / "transform").mkdir(parents=True)
    answers = {"project_name": "Pipeline", "package_name": "pipeline", "owner": "team:data", "compute_target": "duckdb"}
    given = {**answers, "auth_method": "file", "start_from": "existing", "folder_in_repository": "pipeline"}
    options = [option for name, value in given.items() for option in ("-d", f"{name}={value}")]
    screen = Screen(sys.executable, "-m", "copier", "copy", *options, str(template), str(project))

    screen.shows("Which folder contains your dbt_project.yml?")
    screen.child.send("../models\r")
    screen.shows("no dbt_project.yml: use e.g. ..")
    (project / "transform" / "dbt_project.yml").touch()
    screen.child.send(f"{ERASE}transform\r")
    screen.shows("Which base URL receives OpenLineage events?")
    screen.child.close(force=True)


def keys(screen: Screen, questionnaire: Questionnaire, name: str, question: dict[str, Any], answer: str | None) -> str:
    """Read the choices and refusals of the question on the screen, and return the keys that answer it."""
    if "choices" in question:
        choices = questionnaire.choices(question)
        for title in choices:
            screen.shows(title)
        values, default = list(choices.values()), questionnaire.rendered(question["default"])
        return DOWN * (values.index(answer or default) - values.index(default)) + "\r"
    for error, value in questionnaire.refused(name).items():
        screen.child.send(f"{ERASE}{value}\r")
        screen.shows(error.partition("\n")[0])
    return "\r" if question["type"] == "bool" else f"{ERASE}{answer or questionnaire.rendered(question['default'])}\r"


def test_each_rule_is_broken(environment: jinja2.Environment, tmp_path: Path) -> None:
    """The values above break every rule that the validators have, so the screen shows every refusal."""
    (tmp_path / "dbt").mkdir()
    (tmp_path / "dbt" / "dbt_project.yml").touch()  # in the way of a new dbt project
    questionnaire = Questionnaire(environment, tmp_path)
    errors: list[str] = []
    for answers in RUNS:
        for name, _ in questionnaire.ask(answers):
            errors += questionnaire.refused(name)

    assert [] == [text for text in written_errors(environment) if not any(text in error for error in errors)]


def written_errors(environment: jinja2.Environment) -> list[str]:
    """Return the texts of all errors in the macros whose names start with `check_`."""
    texts = []
    for file in ("questions", "destination"):
        source = (REPOSITORY / "extensions" / f"{file}.jinja").read_text()
        for macro in environment.parse(source).find_all(nodes.Macro):
            if macro.name.startswith("check_"):
                texts += [data.data.strip() for data in macro.find_all(nodes.TemplateData)]
                for rule in macro.find_all(nodes.Tuple):
                    text = rule.items[-1]
                    texts.append((text.nodes[0] if isinstance(text, nodes.Concat) else text).as_const())
    return [text for text in texts if text]


def test_widths(environment: jinja2.Environment, tmp_path: Path) -> None:
    """For each target, help texts and choices have a margin; a refusal, whose first words are Copier's, just fits."""
    (tmp_path / "dbt").mkdir()
    (tmp_path / "dbt" / "dbt_project.yml").touch()  # in the way of a new dbt project
    for target in TARGETS:
        for run in RUNS:
            questionnaire = Questionnaire(environment, tmp_path)
            for name, question in questionnaire.ask(run | {"compute_target": target}):
                first, *others = questionnaire.rendered(question["help"]).splitlines()
                choices = questionnaire.choices(question) if "choices" in question else {}
                assert [] == [line for line in [first] if len(line) > 60], name
                assert [] == [line for line in others if len(line) > 76], name
                assert [] == [title for title in choices if len(POINTER + title) > 72], name
                lines = [error.partition("\n")[0] for error in questionnaire.refused(name)]
                assert [] == [line for line in lines if len(line) > COLUMNS or "e.g." not in line], name
