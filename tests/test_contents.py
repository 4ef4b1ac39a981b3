"""Slower checks of file contents, run once per distinct content among all combinations."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from yamllint import linter
from yamllint.config import YamlLintConfig

from tests.combinations import Combination, Rendered
from tests.loading import load
from tools.rendering import REPOSITORY, run

pytestmark = pytest.mark.xdist_group("combinations")
YAMLLINT = YamlLintConfig("""
extends: default
rules:
  comments: {min-spaces-from-content: 1}  # as in all our files
  document-start: disable  # one document a file
  line-length: disable  # prose and Jinja expressions
  truthy: {check-keys: false}  # `on:` of a workflow
""")
DEPENDABOT = REPOSITORY / ".github" / "dependabot.yml"
# Its default, but that a list may stand on one line or on several and that comments need not line up.
FREE = ("array_auto_expand", "array_auto_collapse", "align_comments")
TAPLO = [f"--option={name}=false" for name in FREE]

Say = Callable[[str, object], None]
Part = frozenset[tuple[str, str]]  # of a tree: path and content


def write(contents: Mapping[str, bytes], folder: Path) -> Path:
    """Write each content under its path below `folder`, and return it."""
    for path, content in contents.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return folder


def by_name(rendered: Rendered, pattern: str) -> dict[str, bytes]:
    """Return each distinct content of the files that match `pattern`, under "<content>/<path>"."""
    return {
        f"{content}/{path}": rendered.read(content)
        for path, content in rendered.contents()
        if PurePosixPath(path).match(pattern)
    }


class TestPython:
    """Each distinct package passes the checks that its owner gets."""

    def parts(self, rendered: Rendered) -> list[tuple[Combination, Mapping[str, str]]]:
        tools = {"pyproject.toml", "ruff.toml"}
        return rendered.distinct(lambda path, _: path.endswith(".py") or path in tools)

    @pytest.mark.parametrize("command", [("check",), ("format", "--check")], ids=" ".join)
    def test_ruff(self, rendered: Rendered, tmp_path: Path, command: tuple[str, ...]) -> None:
        """Ruff passes."""
        for combination, tree in self.parts(rendered):
            done = run("ruff", *command, "--no-cache", cwd=rendered.place(tree, tmp_path / "project"))

            assert 0 == done.returncode, f"{combination}: {done.stdout}"

    def test_types(self, rendered: Rendered, tmp_path: Path, cache: pytest.Cache, record_property: Say) -> None:
        """Mypy passes, strict."""
        parts = self.parts(rendered)
        for combination, tree in parts:
            # One folder and one cache: mypy looks again only at what differs.
            project = rendered.place(tree, tmp_path / "project")
            done = run("mypy", "--cache-dir", cache.mkdir("mypy"), cwd=project)

            assert 0 == done.returncode, f"{combination}: {done.stdout}"
        record_property("summary", f"{len(parts)} distinct packages with their settings: ruff, format, mypy --strict")


class TestData:
    """Each distinct file of data passes a linter of its kind."""

    def test_yaml(self, rendered: Rendered, record_property: Say) -> None:
        """Yamllint passes."""
        found = by_name(rendered, "*.yml") | by_name(rendered, "*.yaml")

        assert [] == [
            f"{path}: {problem}"
            for path, content in found.items()
            for problem in linter.run(content.decode(), YAMLLINT)
        ]
        record_property("summary", f"{len(found)} distinct YAML files: yamllint")

    def test_toml(self, rendered: Rendered, tmp_path: Path, record_property: Say) -> None:
        """Taplo finds no error, and nothing to format."""
        found = by_name(rendered, "*.toml")
        folder = write(found, tmp_path)
        # It knows no list of several lines with several items in each, as ruff.toml has.
        formatted = [path for path in found if not path.endswith("/ruff.toml")]
        lint = run("taplo", "lint", "--no-schema", cwd=folder)
        style = run("taplo", "format", "--check", *TAPLO, *formatted, cwd=folder)

        assert (0, 0) == (lint.returncode, style.returncode), lint.stderr + style.stderr
        record_property("summary", f"{len(found)} distinct TOML files: taplo")

    def test_workflows(self, rendered: Rendered, tmp_path: Path, record_property: Say) -> None:
        """GitHub's schema and zizmor pass over the workflows, the template's own too."""
        found = by_name(rendered, ".github/workflows/*.yml")
        write(found, tmp_path)
        # Under template/, a workflow with Jinja is no YAML yet.
        own = [*REPOSITORY.glob(".github/workflows/*"), *REPOSITORY.glob("template/**/.github/workflows/*.yml")]
        files = [str(path) for path in sorted([*tmp_path.glob("**/.github/workflows/*"), *own])]
        schema = run("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *files, cwd=tmp_path)
        audit = run("zizmor", "--offline", "--no-progress", *files, cwd=tmp_path)

        assert len(found) < len(files)
        assert (0, 0) == (schema.returncode, audit.returncode), schema.stdout + audit.stdout
        record_property("summary", f"{len(found)} distinct workflows: GitHub's schema, zizmor")

    def test_dependabot(self, rendered: Rendered, tmp_path: Path, record_property: Say) -> None:
        """Dependabot's schema and zizmor pass over its settings, the template's own too."""
        found = by_name(rendered, ".github/dependabot.yml")
        folder = write(found | {"template/.github/dependabot.yml": DEPENDABOT.read_bytes()}, tmp_path)
        files = [str(path) for path in sorted(folder.glob("**/dependabot.yml"))]
        schema = run("check-jsonschema", "--builtin-schema", "vendor.dependabot", *files, cwd=tmp_path)
        audit = run("zizmor", "--offline", "--no-progress", *files, cwd=tmp_path)

        assert 0 < len(found) < len(files)
        assert (0, 0) == (schema.returncode, audit.returncode), schema.stdout + audit.stdout
        record_property("summary", f"{len(found)} distinct dependabot.yml: its schema, zizmor")


def test_definitions(rendered: Rendered, tmp_path: Path, record_property: Say) -> None:
    """Dbt parses each distinct dbt project with its profile, and Dagster loads each distinct package."""
    own = next(tree for tree in rendered.trees if "dbt/models/placeholder.sql" in tree)
    packages: set[Part] = set()
    projects: dict[Part, int] = {}  # and the number of the combination that parses it
    parse_too, load_only = [], []
    for number, (combination, tree) in enumerate(zip(rendered.combinations, rendered.trees, strict=True)):
        folders = {combination.context["dbt_project_dir"], combination.context["profiles_dir"]}
        package = frozenset(file for file in tree.items() if file[0].startswith("src/"))
        project = frozenset(file for file in tree.items() if file[0].partition("/")[0] in folders)
        project |= {("", combination.context["dbt_project_dir"])}
        if project not in projects:
            projects[project] = number
            parse_too.append((number, None))
        elif package not in packages:
            load_only.append((number, projects[project]))
        packages.add(package)

    # A fork of a process that has imported all there is to import: a fresh interpreter takes four times as long.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.loading"])
    faults = []
    with ProcessPoolExecutor(os.cpu_count(), context, max_tasks_per_child=1) as pool:
        for round_ in (parse_too, load_only):
            jobs = {}
            for number, parsed in round_:
                answers = dict(rendered.combinations[number].context)
                folder = rendered.place(
                    _with_own(rendered.trees[number], own, answers), tmp_path / str(number) / "project"
                )
                manifest = None
                if parsed is not None:
                    artifacts = rendered.combinations[parsed].context["artifacts_dir"]
                    manifest = tmp_path / str(parsed) / "project" / artifacts / "manifest.json"
                jobs[number] = pool.submit(load, folder, answers, manifest)
            found = {number: job.result() for number, job in jobs.items()}
            faults += [f"{rendered.combinations[number]}: {said}" for number, said in found.items() if said]

    assert [] == faults
    record_property(
        "summary",
        f"{len(projects)} distinct dbt projects with their profile parsed, {len(packages)} distinct packages loaded",
    )


def _with_own(tree: Mapping[str, str], own: Mapping[str, str], context: Mapping[str, Any]) -> dict[str, str]:
    """Return `tree` with the dbt project of `own` in it, as its owner's, if it starts from an existing one."""
    if context["start_from"] != "existing":
        return dict(tree)
    folder = context["dbt_project_dir"]
    mine = {path: content for path, content in own.items() if path.startswith("dbt/") and "profiles" not in path}
    return {**tree, **{(Path(folder) / path.removeprefix("dbt/")).as_posix(): mine[path] for path in mine}}
