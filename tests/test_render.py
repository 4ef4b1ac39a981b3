"""What a rendering is made of, for every target, way to sign in and start."""

from __future__ import annotations

import ast
import filecmp
import gc
import json
import re
import tomllib
from pathlib import Path

import pytest
import yaml
from jinja2 import UndefinedError

from tests.rendering import REPOSITORY, TARGETS, facts, render, sign_ins, snapshot

TEMPLATE = REPOSITORY / "template"
STARTS = ("sample", "empty", "existing")
COMBINATIONS = [(target, method, start) for target, method in sign_ins() for start in STARTS]


def expected_files(target: str, start: str) -> set[str]:
    """Return the paths that the template's folders promise, with the default names."""
    names = {"package_name": "pipeline", "profiles_dir": "profiles" if start == "existing" else "dbt"}
    names["_copier_conf.answers_file"] = ".copier-answers.yml"
    found = set()
    for source in TEMPLATE.rglob("*"):
        if source.is_dir() or "cache" in str(source):
            continue
        path = source.relative_to(TEMPLATE).as_posix()
        if overlay := re.match(r"\{\{ overlay\.(\w+) \}\}/", path):
            if overlay[1] not in (target, start):
                continue
            path = path.removeprefix(overlay[0])
        path = re.sub(r"\{\{ ([\w.]+) \}\}", lambda match: names[str(match[1])], path)
        found.add(path.removesuffix(".jinja"))
    return found


@pytest.fixture(scope="module", params=COMBINATIONS, ids="-".join)
def combination(
    request: pytest.FixtureRequest, template: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, str, str, Path]:
    """Return a combination of structural answers, and what it renders."""
    target, method, start = request.param
    answers = {"compute_target": target, "auth_method": method, "start_from": start}
    project = render(template, tmp_path_factory.mktemp("render") / "project", project_name="pipeline", **answers)
    return target, method, start, project


def files(project: Path) -> list[Path]:
    """Return each file of a rendering."""
    return sorted(path for path in project.rglob("*") if path.is_file())


class TestCombination:
    """Every structural combination renders whole and sound."""

    def test_files(self, combination: tuple[str, str, str, Path]) -> None:
        """There are exactly the files of the base and of the chosen overlays."""
        target, _, start, project = combination

        assert expected_files(target, start) == {path.relative_to(project).as_posix() for path in files(project)}

    def test_parse(self, combination: tuple[str, str, str, Path]) -> None:
        """Each file parses by its kind, and ends with one newline."""
        for path in files(combination[3]):
            text = path.read_text(encoding="utf-8")
            match path.suffix:
                case ".py":
                    ast.parse(text)
                case ".toml":
                    tomllib.loads(text)
                case ".yml" | ".yaml":
                    yaml.safe_load(text)
                case ".json":
                    json.loads(text)
            assert text == "" or (text.endswith("\n") and not text.endswith("\n\n")), path

    def test_no_leftovers(self, combination: tuple[str, str, str, Path]) -> None:
        """No Jinja of the template's is left; dbt's own and the workflow's stay."""
        for path in files(combination[3]):
            relative = path.relative_to(combination[3])
            text = path.read_text(encoding="utf-8")
            assert not re.search(r"[{}]{2}|\{%", str(relative))
            if relative.parts[0] not in {"dbt", "profiles", ".github"}:
                assert not re.search(r"\{\{ |\{%|\{#", text), path
            for name in ("facts", "auth.", "overlay", "package_name", "_copier"):
                assert not re.search(rf"\{{\{{[^}}]*\b{re.escape(name)}", text), path

    def test_no_values(self, combination: tuple[str, str, str, Path]) -> None:
        """The profile takes what tells one account from another from the environment only."""
        _, _, _, project = combination
        profile = next(yaml.safe_load(path.read_text()) for path in files(project) if path.name == "profiles.yml")
        outputs = next(iter(profile.values()))["outputs"]

        assert {"dev", "prod", "local"} == outputs.keys()
        named = {"account", "user", "host", "database", "dbname", "project", "catalog", "path", "http_path"}
        for output in outputs.values():
            for key in named & output.keys():
                # Spark's session has no host, though its adapter asks for one.
                assert "env_var(" in str(output[key]) or output[key] == "localhost", key
            for key in output:
                if re.search("pass|token|secret|private_key|keyfile", key):
                    assert "env_var(" in str(output[key]), key


@pytest.mark.parametrize("target", TARGETS)
def test_twice(template: Path, tmp_path: Path, target: str) -> None:
    """The same answers give the same bytes."""
    one, two = (
        render(template, tmp_path / name, project_name="pipeline", compute_target=target) for name in ("one", "two")
    )
    names = [path.relative_to(one).as_posix() for path in files(one)]

    assert names == [path.relative_to(two).as_posix() for path in files(two)]
    assert ([], []) == filecmp.cmpfiles(one, two, names, shallow=False)[1:]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # a folder that copier leaves open
def test_undefined(tmp_path: Path) -> None:
    """A name that nothing defines stops the rendering: it never shows as nothing."""
    template = snapshot(tmp_path / "template")
    (template / "template" / "note.txt.jinja").write_text("account: {{ acount }}\n")

    with pytest.raises(UndefinedError, match="acount"):
        render(template, tmp_path / "project")
    gc.collect()


def test_targets_differ(template: Path, tmp_path: Path) -> None:
    """Each target has a target.py and a profile of its own."""
    for path in ("dbt/profiles.yml", "src/pipeline/floe/target.py"):
        texts = [
            (
                render(
                    template, tmp_path / path.replace("/", "-") / target, project_name="pipeline", compute_target=target
                )
                / path
            ).read_text()
            for target in TARGETS
        ]

        assert len(TARGETS) == len(set(texts)), path


def test_own_adapter_only(template: Path, tmp_path: Path) -> None:
    """A project depends on its target's adapter alone, and on DuckDB for development."""
    for target in TARGETS:
        project = render(template, tmp_path / target, compute_target=target)
        told = tomllib.loads((project / "pyproject.toml").read_text())
        wanted = {facts(target)["requirement"]}
        development = {facts("duckdb")["requirement"]} - wanted

        adapters = {text for text in told["project"]["dependencies"] if re.match(r"dbt-(?!core)", text)}
        assert wanted == adapters
        assert development == {text for text in told["dependency-groups"]["dev"] if text.startswith("dbt-")}
