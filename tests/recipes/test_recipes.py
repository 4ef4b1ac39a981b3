"""Tests of the recipes: their commands run unchanged and show what the page promises; their code passes the linters."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.recipes.checks import CHECKS, Project
from tests.recipes.page import PAGE, Recipe, read_recipes
from tools.rendering import render

RECIPES = read_recipes(PAGE.read_text())


@pytest.fixture(scope="session")
def built(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Return the default project, committed, installed and built; do not change it."""
    folder = render(template, tmp_path_factory.mktemp("recipes") / "my-pipeline", project_name="my-pipeline")
    environment = {
        "DAGSTER_CLI_TELEMETRY": "0",
        "FLOE_RAISE": "1",
        "LOG_FORMAT": "console",  # as on a reader's terminal
        "COLUMNS": "200",
        "MYPY_CACHE_DIR": str(tmp_path_factory.mktemp("mypy")),
        # Each copy of the project gets its package installed into this one, instead of everything into its own.
        "UV_PROJECT_ENVIRONMENT": str(tmp_path_factory.mktemp("environment") / "venv"),
    }
    project = Project(folder, environment)
    code, output = project.sh(
        "uv sync --quiet && git init --quiet && git add --all"
        " && git -c user.name=t -c user.email=t@example.com commit --quiet --message=start"
        " && cd dbt && uv run dbt build --quiet"
    )
    assert 0 == code, output
    return project


@pytest.fixture
def project(built: Project, tmp_path: Path) -> Project:
    """Return a copy of the project that a test may change."""
    folder = tmp_path / "my-pipeline"
    shutil.copytree(built.folder, folder)
    return Project(folder, built.environment)


def test_checked() -> None:
    """Each recipe on the page has a check, and each check has a recipe."""
    assert list(CHECKS) == [recipe.title for recipe in RECIPES]


def test_unnamed_file() -> None:
    """A block of code without a file is refused, since it would not be tested."""
    with pytest.raises(ValueError, match="no file is named"):
        read_recipes("## A recipe\n\n```python\nx = 1\n```\n")


def test_code(built: Project, tmp_path: Path) -> None:
    """The files of each recipe pass the checks of the owner's CI."""
    folder = tmp_path / "my-pipeline"  # always the same, so that mypy only reads what differs
    faults = {}
    for recipe in RECIPES:
        if not any(block.path.endswith(".py") for block in recipe.changes):
            continue
        shutil.copytree(built.folder, folder)
        for block in recipe.changes:
            block.write(folder)
        for command in ("ruff check", "ruff format --check", "mypy"):
            code, output = Project(folder, built.environment).sh(f"uv run {command}")
            if code:
                faults[recipe.title, command] = output
        shutil.rmtree(folder)

    assert {} == faults


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.title)
def test_recipe(project: Project, recipe: Recipe) -> None:
    """The commands succeed, and the reader sees what the recipe promises."""
    check = CHECKS[recipe.title]
    check.before(project)
    for block in recipe.blocks:
        if block.language != "sh":
            block.write(project.folder)
            continue
        code, output = project.sh(block.text)
        project.output.append(output)
        assert 0 == code, f"{block.text}\n{output[-5000:]}"

    check.see(project)
