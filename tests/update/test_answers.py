"""Tests of answers changed later with `copier update --vcs-ref=:current:`: every pair of targets, and the rest."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.update.edits import MINE
from tools.releases import FIRST, OWNERS, answers_of, commit, conflicts, fresh, git, release, start, switch, tree
from tools.rendering import TARGETS, facts, run

Renders = Callable[[Path], dict[str, str]]
Loads = Callable[[Path], None]
OBSERVED = {"openlineage_url": "http://localhost:5000", "otlp_endpoint": "http://localhost:4317"}
LOAD = "from pipeline.definitions import defs; assert len(defs().resolve_asset_graph().get_all_asset_keys()) > 5"


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a repository with one release of the template."""
    return release(tmp_path_factory.mktemp("released") / "template")


@pytest.fixture(scope="module")
def renders(released: Path, tmp_path_factory: pytest.TempPathFactory) -> Renders:
    """Return what the release renders with a project's answers, each set of answers once."""
    known: dict[str, dict[str, str]] = {}

    def rendered(project: Path) -> dict[str, str]:
        key = json.dumps(answers_of(project))
        if key not in known:
            known[key] = fresh(released, tmp_path_factory.mktemp("fresh") / "project", project, FIRST)
        return known[key]

    return rendered


@pytest.fixture(scope="module")
def loads(tmp_path_factory: pytest.TempPathFactory) -> Loads:
    """Return a check that dbt parses a project and Dagster loads it, each distinct content of dbt/ and src/ once."""
    known: set[str] = set()

    def check(project: Path) -> None:
        loaded = json.dumps({name: text for name, text in tree(project).items() if name.startswith(("dbt/", "src/"))})
        if loaded in known:
            return
        copy = tmp_path_factory.mktemp("loads") / "project"
        shutil.copytree(project, copy, ignore=shutil.ignore_patterns(".git"))
        for command in (["dbt", "parse", "--target", "local"], ["python", "-c", LOAD]):
            folder = copy / "dbt" if command[0] == "dbt" else copy
            done = run(*command, cwd=folder, PYTHONPATH=str(copy / "src"), DAGSTER_CLI_TELEMETRY="0")
            assert 0 == done.returncode, done.stdout + done.stderr
        known.add(loaded)

    return check


@pytest.mark.xdist_group("targets")  # they share what is rendered and loaded
@pytest.mark.parametrize("source", TARGETS)
def test_target(
    released: Path,
    tmp_path: Path,
    renders: Renders,
    loads: Loads,
    source: str,
    record_property: Callable[[str, object], None],
) -> None:
    """From each target to each other: the project is what the new target renders, and loads."""
    project = start(released, tmp_path / "project", compute_target=source)
    others = [target for target in TARGETS if target != source]

    for other in others:
        switch(project, compute_target=other)

        assert other == answers_of(project)["compute_target"]
        assert renders(project) == tree(project, owners=False)
        assert [] == [name for name in git(project, "diff", "--name-only").split() if OWNERS.match_file(name)]
        loads(project)
        git(project, "reset", "--quiet", "--hard")
        git(project, "clean", "--quiet", "--force", "-d")
    record_property("switched to another target", f"{len(others)} of {len(TARGETS) - 1}")


@pytest.mark.parametrize("source", TARGETS)
def test_edited_target(released: Path, tmp_path: Path, source: str) -> None:
    """What the owner has changed in a line that names the target is still there, as a conflict that git shows."""
    other = TARGETS[(TARGETS.index(source) + 1) % len(TARGETS)]
    project = start(released, tmp_path / "project", compute_target=source)
    paths = ("src/pipeline/floe/target.py", "dbt/profiles.yml", ".env.example", "pyproject.toml")
    for path in paths:
        text, count = re.subn(
            f"(?i){facts(source)['adapter']}.*", rf"\g<0> # {MINE}", (project / path).read_text(), count=1
        )
        assert count == 1, path
        (project / path).write_text(text)
    commit(project)

    switch(project, compute_target=other)

    for path in paths:
        text = (project / path).read_text()
        assert MINE in text, path
        assert ("<<<<<<<" in text) == (path in conflicts(project)), path
    assert {"src/pipeline/floe/target.py", "dbt/profiles.yml"} <= conflicts(project)


@pytest.mark.parametrize("target", TARGETS)
def test_sign_in(
    released: Path,
    tmp_path: Path,
    renders: Renders,
    target: str,
) -> None:
    """From each way to sign in to the next: the project is what the new one renders."""
    project = start(released, tmp_path / "project", compute_target=target)
    methods = [method["name"] for method in facts(target)["auth_methods"]]

    for method in [*methods[1:], methods[0]]:
        switch(project, auth_method=method)

        assert method == answers_of(project)["auth_method"]
        assert renders(project) == tree(project, owners=False)
        commit(project)


@pytest.mark.parametrize(
    "answers",
    [
        pytest.param(OBSERVED, id="endpoints"),
        pytest.param({"openlineage_url": OBSERVED["openlineage_url"]}, id="lineage"),
        pytest.param({"otlp_endpoint": OBSERVED["otlp_endpoint"], "otlp_protocol": "grpc"}, id="traces"),
        pytest.param({"owner": "team:other"}, id="owner"),
        pytest.param({"update_workflow": True}, id="update_workflow"),
    ],
)
def test_on_and_off(
    released: Path,
    tmp_path: Path,
    renders: Renders,
    answers: dict[str, Any],
) -> None:
    """Switched on, a project is what it would be with that answer from the start; off again, what it was."""
    project = start(released, tmp_path / "project")
    before, old = tree(project), answers_of(project)

    switch(project, **answers)

    assert answers.items() <= answers_of(project).items()
    assert before != tree(project)
    assert renders(project) == tree(project, owners=False)
    commit(project)

    switch(project, **{name: old[name] for name in answers if name in old})

    assert before == tree(project)


DEPLOYMENTS = ["none", "compose", "kubernetes", "none"]


@pytest.mark.parametrize("target", ["duckdb", "postgres"])
def test_deployment(released: Path, tmp_path: Path, renders: Renders, target: str) -> None:
    """From none to compose, to kubernetes and back, a project is always what it would be from the start."""
    project = start(released, tmp_path / "project", compute_target=target, deployment=DEPLOYMENTS[0])
    before = tree(project)

    for deployment in DEPLOYMENTS[1:]:
        switch(project, deployment=deployment)

        assert deployment == answers_of(project)["deployment"]
        assert renders(project) == tree(project, owners=False)
        assert (deployment != "none") == (project / "Dockerfile").exists()
        assert set() == conflicts(project)
        commit(project)

    assert before == tree(project)


def test_own_image(released: Path, tmp_path: Path) -> None:
    """An owner's own Dockerfile and compose.yaml survive an update that adds the template's, as a visible conflict."""
    project = start(released, tmp_path / "project", deployment="none")
    for name in ("Dockerfile", "compose.yaml"):
        (project / name).write_text(f"# {MINE}\n")
    commit(project)

    switch(project, deployment="compose")

    for name in ("Dockerfile", "compose.yaml"):
        assert MINE in (project / name).read_text()
    assert {"Dockerfile", "compose.yaml"} <= conflicts(project)


def owners_files(project: Path) -> dict[str, str]:
    """Return the text of each file of a project that is its owner's."""
    return {
        name: text for name, text in tree(project).items() if OWNERS.match_file(name) or name.startswith("transform/")
    }


@pytest.mark.parametrize("before", ["sample", "empty", "existing"])
@pytest.mark.parametrize("after", ["sample", "empty", "existing"])
def test_start(released: Path, tmp_path: Path, before: str, after: str) -> None:
    """`start_from` is for day one: an update with another leaves the dbt project alone."""
    project = tmp_path / "project"
    if before == "existing":
        (project / "transform").mkdir(parents=True)
        (project / "transform" / "dbt_project.yml").write_text("name: shop\n")
    start(released, project, start_from=before)
    (project / "dbt" / "models").mkdir(parents=True, exist_ok=True)
    (project / "dbt" / "models" / "mine.sql").write_text("select 1 as id\n")
    commit(project)
    owners = owners_files(project)

    switch(project, start_from=after)

    assert owners == owners_files(project)
    assert set() == conflicts(project)
