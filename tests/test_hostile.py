"""Tests of hostile free-text answers: each is refused, or renders a project that contains the answer unchanged."""

from __future__ import annotations

import json
import keyword
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import event, example, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from tests.combinations import Combination, combinations, free_text
from tests.parsing import fault, leftover, parse
from tools.rendering import render

Answers = dict[str, Any]

PIECES = [
    '"', "'", '"""', "\\", "\\n", "\n", "\r\n", "\t", "\0", "\x1b[31m", "\x7f", "\u0085", "\u2028", "\ufeff", "\udc80",
    "{{ facts }}", "{% raw %}", "{#", "#}", "}}", "${{ github.token }}", "${HOME}", "$(id)", "`id`", "$", "%(x)s", "%",
    "; id", "&& id", "| id", "> f", "~", "*", "?", "!", "#", " # ", ": ", ":", "- ", "&a", "*a", "!!python/none", "<<",
    "|", ">", "@", "[", "]", "[[x]]", "=", ",", "---", "...", "<script>", "](x)", "<!--", "..", "../", "/", "C:\\",
    "null", "true", "on", "no", "1e3", "0x1F", "0o7", "1_0", ".inf", "2026-11-23", "12:30:00", "None", "class", "match",
    "json", "dagster", "con", "README.md", "src", ".git", "é", "ß", "İ", "ﬁ", "\uff11", "٣", "名", "🙂",
    "e\u0301", "\u200b", "\u202eabc", "שלום", "مرحبا", " ", "", "a" * 300, "_", "-", ".", "__", "--",
]  # fmt: skip
HOSTILE = st.lists(st.sampled_from(PIECES) | st.text(max_size=8), max_size=4).map("".join)
NEAR = st.text("abXY01_-. @:/[]%+~=", max_size=3) | st.text("abz09", max_size=70)
WORD = st.text("abcxyz", min_size=1, max_size=6)
QUESTIONS = free_text()


@st.composite
def edited(draw: DrawFn, values: list[str], text: SearchStrategy[str]) -> str:
    """Draw a sound value with a part replaced by `text`."""
    value = draw(st.sampled_from(values))
    start, end = sorted(draw(st.tuples(*[st.integers(0, len(value))] * 2)))
    return value[:start] + draw(text) + value[end:] if value else value


@st.composite
def typed(draw: DrawFn, found: list[Combination], question: str) -> tuple[int, Answers]:
    """Draw the number of a combination that asks `question`, and text: hostile for that question, or for all."""
    number = draw(st.sampled_from([number for number, asks in enumerate(found) if question in asks.asked]))
    names = [name for name in QUESTIONS if name in found[number].asked]
    attacked = draw(st.sampled_from([[question], [question], names]))
    answers = {}
    for name in names:
        sound = sorted({other.asked[name] for other in found if name in other.asked})
        if name in attacked:
            near = st.one_of([edited(sound, text) for text in (HOSTILE, NEAR, NEAR, WORD, WORD)])
            answers[name] = draw(HOSTILE | near)
        else:  # as it is, or with its last word made longer
            answers[name] = re.sub(r"^(.*[a-z])", rf"\1{draw(st.just('') | WORD)}", draw(st.sampled_from(sound)))
    return number, answers


@pytest.fixture(scope="module")
def found(template: Path) -> list[Combination]:
    """Return the combinations of the structural answers."""
    return combinations(template)


def test_hostile(
    template: Path,
    found: list[Combination],
    tmp_path_factory: pytest.TempPathFactory,
    record_property: Callable[[str, object], None],
) -> None:
    """Each answer is refused at its question in one or two lines, or is what the rendered files say when parsed."""
    folder = tmp_path_factory.mktemp("hostile")
    outcomes: Counter[str] = Counter()

    def each(drawn: tuple[int, Answers]) -> None:
        combination, answers = found[drawn[0]], drawn[1]
        with tempfile.TemporaryDirectory(dir=folder) as parent:
            project = Path(parent) / "project"
            try:
                render(template, project, **{**combination.asked, **answers})
            except ValueError as refusal:
                outcome = f"refused: {refused(str(refusal), answers)}"
                assert not project.exists()
            else:
                outcome = "rendered"
                meant(project, {**combination.context, **answers}, {**combination.asked, **answers})
        event(outcome)
        outcomes[outcome] += 1

    examples = -(-settings().max_examples // len(QUESTIONS))
    for question in QUESTIONS:
        asks = next(number for number, combination in enumerate(found) if question in combination.asked)
        refused_by_all = example((asks, {question: "\0"}))  # so that no question depends on what is drawn
        settings(max_examples=examples)(refused_by_all(given(typed(found, question))(each)))()

    assert {"rendered", *(f"refused: {name}" for name in QUESTIONS)} == outcomes.keys()
    record_property("summary", f"{outcomes.total()} hostile sets of answers: {dict(outcomes.most_common())}")


def refused(message: str, answers: Answers) -> str:
    """Check what a refusal says, and return the name of the question."""
    # A prompt shows the first of two lines, and 80 columns of it. The question's name stands for the answer.
    parts = re.fullmatch(r"(?=.{,80}$)Validation error for question '(\w+)': (.+)(\n[^\n\r]+)?", message, re.MULTILINE)
    assert parts, message
    name, rule = parts[1], parts[2]
    assert name in answers, message
    assert re.search(r"\b(use|start|join|shorten|enter|copy) (.+ )?e\.g\. \S", rule), message
    value = json.dumps(answers[name])
    # A URL that may hold a password is not said again.
    assert "@" not in value or value[1:-1] not in message, message
    return name


def meant(project: Path, context: Mapping[str, Any], asked: Answers) -> None:
    """Check that each file is sound, and that the project says what was answered."""
    files = {
        path.relative_to(project).as_posix(): path.read_bytes().decode()
        for path in project.rglob("*")
        if path.is_file()
    }
    context = {**context, "profiles_dir": "profiles" if asked["start_from"] == "existing" else "dbt"}
    assert [] == [f"{path}: {said}" for path, text in files.items() if (said := fault(path, text))]
    assert [] == [path for path, text in files.items() if leftover(path, text, context)]

    def read(path: str) -> Any:
        return parse(path, files[path].encode())

    package = asked["package_name"]
    assert package.isidentifier()
    assert not keyword.iskeyword(package)
    assert f"src/{package}/definitions.py" in files

    stored = read(".copier-answers.yml")
    names = [name for name in QUESTIONS if name in asked]
    assert [asked[name] for name in names] == [stored.get(name) for name in names]

    defaults = read(".github/workflows/floe.yml")["jobs"]["check"].get("defaults")
    workflow = defaults and defaults["run"]
    assert package == next(iter(read(f"{context['profiles_dir']}/profiles.yml")))
    settings, built = read(f"src/{package}/floe/settings.toml"), read("pyproject.toml")
    told = {
        "project_name": settings["project"]["name"],
        "owner": settings["project"]["owner"],
        "openlineage_url": settings["openlineage"]["url"],
        "otlp_endpoint": settings["otlp"]["endpoint"],
        "dbt_project_dir": settings["dbt"]["project_dir"],
        "folder_in_repository": "." if workflow is None else workflow["working-directory"],
        "package_name": built["tool"]["dg"]["project"]["root_module"],
    }
    names = [name for name in told if name in asked]
    assert [asked[name] for name in names] == [told[name] for name in names]
    assert {"floe": f"{package}.floe.cli.main:main"} == built["project"]["scripts"]
    assert built["project"]["description"].startswith(f"{asked['project_name']}: ")
    if asked["start_from"] != "existing":
        dbt = read("dbt/dbt_project.yml")
        assert (package, package) == (dbt["name"], dbt["profile"])

    title, *blocks = (token for token in read("README.md") if token.type in {"inline", "fence"})
    assert asked["project_name"] == title.content == "".join(part.content for part in title.children)
    code = {part.content for block in blocks for part in block.children or [] if part.type == "code_inline"}
    assert {f"{told['dbt_project_dir']}/", f"src/{package}/defs/"} <= code
    assert {url for url in (asked["openlineage_url"], asked["otlp_endpoint"]) if url} <= code
    examples = [yaml.safe_load(block.content) for block in blocks if block.info == "yaml"]
    assert all(isinstance(example, dict) for example in examples)
    assert {} == read(".env.example")
