"""Tests of the template around an existing dbt project."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tools.rendering import render, run

pytestmark = pytest.mark.xdist_group("existing")

OWN = {
    "dbt_project.yml": "name: legacy\nversion: '1.0'\nprofile: warehouse\n",
    "profiles.yml": "warehouse: {target: gone, outputs: {}}\n",
    "models/one.sql": "select 1 as id\n",
    "models/two.sql": "select * from {{ ref('one') }} where id in (select 1 from {{ source('erp', 'ids') }})\n",
    "models/schema.yml": (
        "models: [{name: two, columns: [{name: id, data_tests: [unique]}]}]\n"
        "sources: [{name: erp, schema: information_schema, tables: [{name: ids, identifier: tables}]}]\n"
    ),
    "packages.yml": "packages: [{local: shared}]\n",
    "shared/dbt_project.yml": "name: shared\nversion: '1.0'\n",
}
LOCK = "package-lock.concurrent-update-lock"  # dagster-dbt's, around `dbt deps`

KEYS = """
import json, sys
from pipeline.definitions import defs
json.dump([key.to_user_string() for key in defs().resolve_asset_graph().get_all_asset_keys()], sys.stdout)
"""


@pytest.mark.parametrize("folder", ["transform", "analytics/dbt", "."])
def test_untouched_and_built(template: Path, tmp_path: Path, folder: str) -> None:
    """Its own files stay as they are, its models are built and tested through Dagster, its sources stand upstream."""
    project = tmp_path / "project"
    for name, text in OWN.items():
        path = project / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    render(
        template,
        project,
        project_name="pipeline",
        start_from="existing",
        dbt_project_dir=folder,
    )
    done = run(
        "dg", "launch", "--assets", "*", cwd=project, PYTHONPATH="src", DAGSTER_CLI_TELEMETRY="0", FLOE_RAISE="1"
    )

    assert OWN == {name: (project / folder / name).read_text() for name in OWN}
    assert 0 == done.returncode, done.stdout + done.stderr
    assert "PASS=3" in done.stdout + done.stderr
    assert (project / "local" / "warehouse.duckdb").is_file()
    assert (project / "local" / "dbt" / "manifest.json").is_file()
    assert [] == [name for name in ("target", "logs", LOCK) if (project / folder / name).exists()]
    [by_itself] = re.findall(r"^\| run dbt by itself \| `(.+?)` \|$", (project / "README.md").read_text(), re.MULTILINE)
    command = re.sub(r"uv run (--project \S+ )?", "", by_itself)
    assert 0 == run("sh", "-c", command, cwd=project).returncode
    assert {"one", "two", "erp/ids"} == set(json.loads(run("python", "-c", KEYS, cwd=project, PYTHONPATH="src").stdout))


def test_own_tests(template: Path, tmp_path: Path) -> None:
    """The owner's tests need no credentials: with versioned models, and SQL that only the default output can parse."""
    files = {
        "dbt_project.yml": OWN["dbt_project.yml"],
        "models/one_v1.sql": "{{ exceptions.raise_compiler_error('dev only') if target.name != 'dev' }} select 1 as id",
        "models/one_v2.sql": "select 1 as id, 2 as more",
        "models/schema.yml": "models: [{name: one, latest_version: 2, versions: [{v: 1}, {v: 2}]}]",
    }
    for name, text in files.items():
        path = tmp_path / "transform" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    project = render(template, tmp_path, project_name="pipeline", start_from="existing", dbt_project_dir="transform")
    for name, old, new in (
        ("src/pipeline/floe/settings.toml", 'target = "local"', 'target = "dev"'),
        ("profiles/profiles.yml", "env_var('DUCKDB_SCHEMA', 'main')", "env_var('DUCKDB_SCHEMA')"),
    ):
        text = (project / name).read_text()
        assert old in text
        (project / name).write_text(text.replace(old, new))

    done = run("python", "-m", "pytest", "-q", "-n0", "tests/test_project.py", cwd=project, PYTHONPATH="src")

    assert 0 == done.returncode, done.stdout + done.stderr


def test_empty_start(template: Path, tmp_path: Path) -> None:
    """The empty project builds its placeholder."""
    project = render(template, tmp_path / "project", project_name="pipeline", start_from="empty")

    done = run("dg", "launch", "--assets", "*", cwd=project, PYTHONPATH="src", DAGSTER_CLI_TELEMETRY="0")

    assert 0 == done.returncode, done.stdout + done.stderr
    assert "PASS=3" in done.stdout + done.stderr


def test_production_manifest(template: Path, tmp_path: Path) -> None:
    """In production a missing manifest is an error that names the command which makes it; the command does."""
    project = render(template, tmp_path / "project", project_name="pipeline", start_from="empty")
    load, prepare = (
        f"import sys; from pipeline.{what}"
        for what in ("definitions import defs; defs()", "floe.cli.main import main; sys.argv[1:] = ['prepare']; main()")
    )
    production = {"PYTHONPATH": "src", "DBT_TARGET": "prod"}

    missing = run("python", "-c", load, cwd=project, **production)
    made = run("python", "-c", prepare, cwd=project, **production)
    loaded = run("python", "-c", load, cwd=project, **production)

    assert "manifest.json is missing: run `DBT_TARGET=prod floe prepare` when you build the image" in missing.stderr
    assert (1, 0, 0) == (missing.returncode, made.returncode, loaded.returncode), made.stderr + loaded.stderr
