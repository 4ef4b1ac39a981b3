"""Tests of where a project is rendered: beside an existing dbt project, in a git repository, among other files."""

from __future__ import annotations

import subprocess
from pathlib import Path

import copier
import pytest
import yaml

DBT_PROJECT = "name: legacy\nversion: '1.0'\nprofile: warehouse\n"
# .gitignore files of dbt's starter project, of GitHub for Python and Node, and of two cautious teams.
IGNORED = {
    "dbt": "target/\ndbt_packages/\nlogs/\nprofiles.yml\n.user.yml\n",
    "python": "__pycache__/\nbuild/\ndist/\nlib/\n.env*\n*.egg-info/\n.venv\ndocs/_build/\n*.py[cod]\n",
    "node": "node_modules\n.env.*\n*.log\ndist\ncoverage\n",
    "by extension": "*.json\n*.csv\n*.svg\n*.toml\n*.duckdb\n",
    "by folder": "docs/\ntests/\nlocal/\nprofiles/\n.*\n!.gitignore\n",
}


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Return a git repository with a dbt project at its root, and with files that the template writes too."""
    folder = tmp_path / "repository"
    for name in ("README.md", "pyproject.toml", ".gitignore", "docs/index.md", "tests/unique.sql", "data/seed.csv"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("theirs\n")
    (folder / "dbt_project.yml").write_text(DBT_PROJECT)
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "theirs")
    return folder


def copy(template: Path, folder: Path, **answers: str) -> Path:
    """Copy the template to `folder`, with defaults for all other answers."""
    copier.run_copy(str(template), folder, data=answers, defaults=True, quiet=True)
    return folder


def git(folder: Path, *arguments: str) -> str:
    """Run git in `folder` as somebody, and return what it prints."""
    somebody = ("-c", "user.name=somebody", "-c", "user.email=somebody@example.com")
    done = subprocess.run(["git", *somebody, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout


@pytest.mark.parametrize("ignored", IGNORED.values(), ids=IGNORED)
def test_beside_theirs(template: Path, repository: Path, ignored: str) -> None:
    """A copy with all defaults changes no file of theirs, and git ignores no file of ours, whatever they ignore."""
    (repository / ".gitignore").write_text(ignored)
    git(repository, "add", "--all", "--force")
    git(repository, "commit", "--quiet", "--message", "what they ignore")

    project = copy(template, repository / "pipeline", start_from="existing")

    assert "?? pipeline/\n" == git(repository, "status", "--porcelain")
    git(repository, "add", "--all")
    written = {path.relative_to(repository).as_posix() for path in project.rglob("*") if path.is_file()}
    assert written == set(git(repository, "diff", "--cached", "--name-only").split())


def test_own_files_are_ignored(template: Path, repository: Path) -> None:
    """What a run leaves in the new folder is ignored there, and so is .env."""
    project = copy(template, repository / "pipeline", start_from="existing")
    left = [".env", ".venv/bin/python", ".floe/columns.json", "local/warehouse.duckdb", "local/dagster/history/runs.db"]
    for name in left:
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).touch()

    git(repository, "add", "--all")

    added = git(repository, "diff", "--cached", "--name-only").split()
    assert [] == [name for name in left if f"pipeline/{name}" in added]


LAYOUTS = {
    "at the root": ("dbt_project.yml", "pipeline", ".."),
    "beside": ("transform/dbt_project.yml", "pipeline", "../transform"),
    "inside": ("pipeline/transform/dbt_project.yml", "pipeline", "transform"),
    "in the same folder": ("dbt_project.yml", ".", "."),
    "in a folder of the same folder": ("analytics/dbt/dbt_project.yml", ".", "analytics/dbt"),
    "in a monorepo": ("services/analytics/dbt_project.yml", "services/pipeline", "../analytics"),
    "deeper beside": ("teams/analytics/dbt_project.yml", "pipeline", "../teams/analytics"),
}


@pytest.mark.parametrize(("file", "folder", "found"), LAYOUTS.values(), ids=LAYOUTS)
def test_finds_the_dbt_project(template: Path, tmp_path: Path, file: str, folder: str, found: str) -> None:
    """The dbt project is found without an answer, and the local warehouse lies in the new project."""
    repository = tmp_path / "repo[1]"  # a pattern, if it were one
    (repository / file).parent.mkdir(parents=True)
    (repository / file).write_text(DBT_PROJECT)
    (repository / ".git").mkdir()
    (repository / ".git" / "HEAD").touch()

    project = copy(template, repository / folder, start_from="existing", package_name="shop")

    answers = yaml.safe_load((project / ".copier-answers.yml").read_text())
    assert (found, folder) == (answers["dbt_project_dir"], answers["folder_in_repository"])
    output = yaml.safe_load((project / "profiles" / "profiles.yml").read_text())["shop"]["outputs"]["local"]
    path = output["path"].split("'")[3]
    assert (project / "local" / "warehouse.duckdb").resolve() == (project / found / path).resolve()
    workflow = yaml.safe_load((project / ".github" / "workflows" / "floe.yml").read_text())
    defaults = workflow["jobs"]["check"].get("defaults", {"run": {"working-directory": "."}})
    assert folder == defaults["run"]["working-directory"]


@pytest.mark.parametrize("found", ["..", "../transform"])
def test_message_names_the_dbt_project(
    template: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], found: str
) -> None:
    """The message after the copy names the dbt project by its file: `..` at the end of a sentence is not readable."""
    project = tmp_path / "pipeline"
    (project / found).resolve().mkdir(exist_ok=True)
    (project / found).resolve().joinpath("dbt_project.yml").write_text(DBT_PROJECT)

    copier.run_copy(str(template), project, data={"start_from": "existing"}, defaults=True)

    assert f"It builds the dbt project of {found}/dbt_project.yml. Next:" in capsys.readouterr().err


def test_message_names_the_other_dbt_projects(
    template: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of several dbt projects next to each other the first is built, and the message names the others."""
    for name in ("sales", "finance", "web", "sales/dbt_packages/utils"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "dbt_project.yml").write_text(DBT_PROJECT)

    copier.run_copy(str(template), tmp_path / "pipeline", data={"start_from": "existing"}, defaults=True)

    built = "It builds the dbt project of ../finance/dbt_project.yml. Not chosen: ../sales, ../web. Next:"
    assert built in capsys.readouterr().err


@pytest.mark.parametrize("start", ["sample", "empty", "existing"])
def test_refuses_to_overwrite(template: Path, repository: Path, start: str) -> None:
    """A folder with files that the template would write is refused, and nothing is written."""
    with pytest.raises(ValueError, match="would overwrite") as refusal:
        copy(template, repository, start_from=start)

    assert (
        f"The template would overwrite .gitignore, README.md, docs/, pyproject.toml, tests/ in {repository}. Choose"
        in (str(refusal.value))
    )
    assert "" == git(repository, "status", "--porcelain")


@pytest.mark.parametrize(("start", "file"), [("sample", "dbt/x.sql"), ("existing", "profiles/profiles.yml")])
def test_refuses_to_overwrite_other_files(template: Path, tmp_path: Path, start: str, file: str) -> None:
    """So is a folder with files that only some projects have; the others may have them."""
    (tmp_path / file).parent.mkdir()
    (tmp_path / file).write_text("theirs")
    (tmp_path / "transform").mkdir()
    (tmp_path / "transform" / "dbt_project.yml").write_text(DBT_PROJECT)
    with pytest.raises(ValueError, match=f"would overwrite {file.partition('/')[0]}/ in"):
        copy(template, tmp_path, start_from=start)

    copy(template, tmp_path, start_from="existing" if start == "sample" else "empty")

    assert "theirs" == (tmp_path / file).read_text()


def test_refuses_a_folder_without_dbt_project(template: Path, tmp_path: Path) -> None:
    """A folder without dbt_project.yml is refused at once, with the folder that the answer is relative to."""
    (tmp_path / "pipeline").mkdir()
    (tmp_path / "pipeline" / "transform").mkdir()
    with pytest.raises(ValueError, match=r'"\.\./models" has no dbt_project.yml') as refusal:
        copy(template, tmp_path / "pipeline", start_from="existing", dbt_project_dir="../models")

    assert f"relative to {tmp_path / 'pipeline'}" in str(refusal.value)


def test_refuses_a_dbt_project_outside_the_repository(template: Path, repository: Path) -> None:
    """A dbt project above the repository's root cannot be checked out with it: the answer is refused."""
    (repository.parent / "dbt_project.yml").write_text(DBT_PROJECT)
    with pytest.raises(ValueError, match="would lie outside the repository"):
        copy(template, repository / "pipeline", start_from="existing", dbt_project_dir="../..")


@pytest.mark.parametrize("target", ["duckdb", "postgres"])
def test_default_output(template: Path, repository: Path, target: str) -> None:
    """An existing project builds where its SQL runs: DuckDB cannot run another engine's."""
    project = copy(template, repository / "pipeline", start_from="existing", compute_target=target)

    settings = (project / "src" / "pipeline" / "floe" / "settings.toml").read_text()
    assert f'target = "{"local" if target == "duckdb" else "dev"}"' in settings
    assert 'profile = "pipeline"' in settings
