"""Tests of where a project is rendered: beside an existing dbt project, in a git repository, among other files."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import copier
import pytest
import yaml

README = Path(__file__).parent.parent / "README.md"
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


def test_folder_ignored_by_theirs(template: Path, repository: Path) -> None:
    """Their rule may ignore the whole folder, which no file in it can change; the line in the README does."""
    (repository / ".gitignore").write_text("*\n!dbt_project.yml\n")
    git(repository, "commit", "--quiet", "--all", "--message", "what they ignore")
    copy(template, repository / "pipeline", start_from="existing")
    assert "" == git(repository, "status", "--porcelain")

    [line] = re.findall(r"ignores the whole folder, .*add the line\s+`(.*?)`", README.read_text(), re.DOTALL)
    (repository / ".gitignore").write_text(f"*\n!dbt_project.yml\n{line}\n")

    assert "?? pipeline/" in git(repository, "status", "--porcelain").splitlines()
    (repository / "pipeline" / ".env").touch()
    git(repository, "add", "pipeline")
    added = git(repository, "diff", "--cached", "--name-only").splitlines()
    assert {"pipeline/pyproject.toml", "pipeline/profiles/profiles.yml", "pipeline/.env.example"} <= set(added)
    assert "pipeline/.env" not in added


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


def test_test_projects_come_last(template: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The tests of a dbt package are a dbt project too, which is chosen only if there is no other."""
    for name in ("integration_tests", "tests", "transform"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "dbt_project.yml").write_text(DBT_PROJECT)

    copier.run_copy(str(template), tmp_path / "pipeline", data={"start_from": "existing"}, defaults=True)

    built = "dbt project of ../transform/dbt_project.yml. Not chosen: ../integration_tests, ../tests. Next:"
    assert built in capsys.readouterr().err
    for name in ("tests", "transform"):
        (tmp_path / name / "dbt_project.yml").unlink()
    project = copy(template, tmp_path / "other", start_from="existing")
    assert "../integration_tests" == yaml.safe_load((project / ".copier-answers.yml").read_text())["dbt_project_dir"]


@pytest.mark.parametrize("accepted", ["transform", "teams/sales"])
def test_passes_over_names_that_are_not_accepted(template: Path, tmp_path: Path, accepted: str) -> None:
    """A folder whose name is refused as an answer is not proposed; it is named if there is no other."""
    for name in ("a b", accepted):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "dbt_project.yml").write_text(DBT_PROJECT)

    project = copy(template, tmp_path / "pipeline", start_from="existing")

    assert f"../{accepted}" == yaml.safe_load((project / ".copier-answers.yml").read_text())["dbt_project_dir"]
    (tmp_path / accepted / "dbt_project.yml").unlink()
    with pytest.raises(ValueError, match=r'The folder "\.\./a b" has one, but its name is not accepted: rename it'):
        copy(template, tmp_path / "other", start_from="existing")


@pytest.mark.parametrize(("start", "folder"), [("existing", "packages/pipeline"), ("sample", "pipeline")])
def test_uv_workspace(
    template: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], start: str, folder: str
) -> None:
    """With the line that the message after the copy prints, a uv workspace above leaves the project alone."""
    members = folder.replace("pipeline", "*")
    theirs = f'[project]\nname = "theirs"\nversion = "1"\n[tool.uv.workspace]\nmembers = ["{members}"]\n'
    (tmp_path / "pyproject.toml").write_text(theirs)
    git(tmp_path, "init", "--quiet")
    answers = {"start_from": start}
    if start == "existing":
        (tmp_path / "transform").mkdir()
        (tmp_path / "transform" / "dbt_project.yml").write_text(DBT_PROJECT)
        answers["dbt_project_dir"] = "../../transform"

    copier.run_copy(str(template), tmp_path / folder, data=answers, defaults=True)

    [(file, line)] = re.findall(
        r"    # If (\S+) has \[tool.uv.workspace\], first add there: (.*)", capsys.readouterr().err
    )
    assert (tmp_path / "pyproject.toml").samefile(tmp_path / folder / file)
    assert str(tmp_path) == uv(tmp_path / folder, "workspace", "dir")
    (tmp_path / "pyproject.toml").write_text(f"{theirs}{line}\n")
    assert str(tmp_path / folder) == uv(tmp_path / folder, "workspace", "dir")
    assert ("pipeline", "theirs") == (uv(tmp_path / folder, "workspace", "list"), uv(tmp_path, "workspace", "list"))


def uv(folder: Path, *arguments: str) -> str:
    """Run uv in `folder`, and return what it prints."""
    return subprocess.run(["uv", *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def test_no_uv_workspace(template: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a pyproject.toml between the project and the root of the repository, the message names none."""
    (tmp_path / "pyproject.toml").touch()
    git(tmp_path, "init", "--quiet", "repository")

    copier.run_copy(str(template), tmp_path / "repository" / "pipeline", defaults=True)

    assert "tool.uv" not in capsys.readouterr().err


@pytest.mark.parametrize("is_submodule", [True, False])
def test_submodule(template: Path, repository: Path, capsys: pytest.CaptureFixture[str], *, is_submodule: bool) -> None:
    """If the dbt project is in a submodule, the message says what its checkout needs; the workflows have the line."""
    above = repository.parent / "above"
    git(repository.parent, "init", "--quiet", "above")
    if is_submodule:
        git(above, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(repository), "transform")
    else:
        (above / "transform").mkdir()
        (above / "transform" / "dbt_project.yml").write_text(DBT_PROJECT)

    data = {"start_from": "existing", "deployment": "compose"}
    copier.run_copy(str(template), above / "pipeline", data=data, defaults=True)

    assert is_submodule == ("git submodule: set `submodules: true` where" in capsys.readouterr().err)
    workflows = above / "pipeline" / ".github" / "workflows"
    for name, checkouts in {"floe.yml": 1, "image.yml": 2}.items():
        text = (workflows / name).read_text()
        assert checkouts == text.count("\n          # submodules: true # if")
        jobs = yaml.safe_load(text.replace("# submodules", "submodules"))["jobs"].values()
        assert all(job["steps"][0]["with"]["submodules"] for job in jobs)


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
