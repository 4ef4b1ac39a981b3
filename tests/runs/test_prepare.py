"""Tests of `floe prepare`: an image's manifest is made without any variables and used with all of them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dagster_dg_core.context import DgContext
from pipeline.floe.dbt.placeholders import restored
from pipeline.floe.settings import settings

from tools import runs
from tools.rendering import TARGETS, facts, render

BARE = "/usr/bin:/bin"
PREPARE = "import sys; from pipeline.floe.cli.main import main; sys.argv[1:] = ['prepare']; sys.exit(main())"
TABLES = """
import json
from pipeline.definitions import defs
specs = defs().resolve_all_asset_specs()
print(json.dumps({spec.key.to_user_string(): spec.metadata.get("dagster/table_name") for spec in specs}))
"""
# What a run has set, by the variables that name where its tables are, and the name of the table that follows.
RUNS = {
    "duckdb": ({"DUCKDB_PATH": "/srv/shop.duckdb", "DUCKDB_SCHEMA": "sales"}, "shop.sales.placeholder"),
    "snowflake": ({"SNOWFLAKE_DATABASE": "SHOP", "SNOWFLAKE_SCHEMA": "SALES"}, "SHOP.SALES.placeholder"),
    "bigquery": ({"GCP_PROJECT": "shop-1", "BQ_DATASET": "sales"}, "shop-1.sales.placeholder"),
    "redshift": ({"REDSHIFT_DATABASE": "shop"}, "shop.public.placeholder"),
    "databricks": ({"DATABRICKS_SCHEMA": "sales"}, "main.sales.placeholder"),
    "postgres": ({"POSTGRES_DATABASE": "shop", "POSTGRES_SCHEMA": "sales"}, "shop.sales.placeholder"),
    "spark": ({"SPARK_SCHEMA": "sales"}, "sales.placeholder"),
}


def python(project: Path, code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run code of the project in an environment that has nothing but `variables`, dbt not on its PATH."""
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=project,
        env={"PATH": BARE, "PYTHONPATH": "src", "DBT_TARGET": "prod", **variables},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("target", TARGETS)
def test_image(template: Path, tmp_path: Path, target: str) -> None:
    """With an empty environment and a bare PATH it says what is missing, and what Dagster shows then is the run's."""
    pytest.importorskip(f"dbt.adapters.{target}", reason="`nox -s sign_in` has all adapters")
    answers = {"compute_target": target, "start_from": "empty", "project_name": "pipeline"}
    project = render(template, tmp_path / "project", **answers)
    variables, table = RUNS[target]

    made = python(project, PREPARE)
    loaded = python(project, TABLES, **variables)

    assert 0 == made.returncode, made.stdout + made.stderr
    *said, last = made.stdout.splitlines()
    assert str(project / "dbt" / "target" / "manifest.json") == last
    named = [name for name in facts(target)["variables"] if said and name in said[0]]
    required = [name for name in variables if "default" not in facts(target)["variables"][name]]
    assert ([], 1 if named else 0) == ([name for name in required if name not in named], len(said))
    assert "" == made.stderr
    assert 0 == loaded.returncode, loaded.stderr
    assert table in json.loads(loaded.stdout.splitlines()[-1]).values()


@pytest.fixture(scope="module")
def image(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the default project whose manifest was made without any variable."""
    copied = runs.copy(project, tmp_path_factory.mktemp("image") / "project")
    made = python(copied, PREPARE)
    assert 0 == made.returncode, made.stdout + made.stderr
    return copied


def test_run(image: Path, tmp_path: Path) -> None:
    """A run of it builds where its own variables say, and its events and Dagster's tables have those names."""
    events = tmp_path / "events.json"
    config = {"type": "file", "log_file_path": str(events), "append": True}
    variables: dict[str, Any] = {
        "DBT_TARGET": "prod",
        "DUCKDB_PATH": str(tmp_path / "shop.duckdb"),
        "DUCKDB_SCHEMA": "sales",
    }
    file = tmp_path / "openlineage.yml"
    file.write_text(json.dumps({"transport": config}))

    run = runs.launch(image, PATH=BARE, OPENLINEAGE_CONFIG=str(file), **variables)
    loaded = python(image, TABLES, **variables)

    outputs = {name for event in _events(events) for name in [each["name"] for each in event.get("outputs", [])]}
    assert "shop.sales.orders" in outputs, run.output[-3000:]
    assert [] == [name for name in outputs if not name.startswith("shop.sales")]
    assert "shop.sales.orders" == json.loads(loaded.stdout.splitlines()[-1])["orders"]
    namespaces = {str(runs.attributes(span).get("db.namespace", "")) for span in run.spans}
    assert "shop.sales" in namespaces
    assert [] == [name for name in namespaces if "of_run" in name]
    assert "of_run" not in events.read_text()


def _events(file: Path) -> Iterator[dict[str, list[dict[str, str]]]]:
    for line in file.read_text().splitlines():
        yield json.loads(line)


def test_location(template: Path, tmp_path: Path) -> None:
    """The code location has the project's name, whatever the folder is called."""
    project = render(template, tmp_path / "app", project_name="Shop Pipeline")

    context = DgContext.from_file_discovery_and_command_line_config(project, {})

    assert "shop-pipeline" == context.code_location_name


def test_case(monkeypatch: pytest.MonkeyPatch) -> None:
    """A macro that folds the case of a name does not keep its placeholder from being replaced."""
    monkeypatch.setenv("DUCKDB_SCHEMA", "Sales")
    made = b'["__DUCKDB_SCHEMA_of_run__", "__DUCKDB_SCHEMA_OF_RUN__", "x___duckdb_schema_of_run__", "__OTHER_of_run__"]'

    assert ["Sales", "SALES", "x_sales", "__OTHER_of_run__"] == json.loads(restored(made, settings))


def test_error(project: Path, tmp_path: Path) -> None:
    """What dbt cannot parse is told in its own words, on one line, and without a traceback."""
    broken = runs.copy(project, tmp_path / "project", {"macros/broken.sql": "{% macro x( %}\n{% endmacro %}\n"})
    made = python(broken, PREPARE)

    assert (1, 1, "") == (made.returncode, len(made.stdout.splitlines()), made.stderr), made.stdout
    assert f"dbt cannot parse {broken / 'dbt'}: Compilation Error expected token 'name'" in made.stdout


def test_defs(project: Path, tmp_path: Path) -> None:
    """Where definitions are loaded, dbt parses once and fails once, and what is told is little more than its words."""
    broken = runs.copy(project, tmp_path / "project", {"macros/broken.sql": "{% macro x( %}\n{% endmacro %}\n"})
    calls = tmp_path / "calls"
    code = (
        "from dagster_dbt.dbt_project import DagsterDbtProjectPreparer as Preparer\n"
        f"prepare = Preparer.prepare; calls = open({str(calls)!r}, 'a')\n"
        "Preparer.prepare = lambda *args: (calls.write('x'), calls.flush(), prepare(*args))\n"
        "from pipeline.definitions import defs; defs()"
    )
    loaded = python(broken, code, DBT_TARGET="local", DAGSTER_IS_DEV_CLI="1")
    lines = loaded.stderr.strip().splitlines()

    assert 1 == loaded.returncode
    assert "x" == calls.read_text()
    assert "Compilation Error expected token 'name'" in lines[-1]
    assert "Compilation Error expected token 'name'" in lines[0]  # above the long traceback as well
    assert "[dagster_dbt" not in loaded.stderr
    assert [] == [line for line in lines if "DagsterDbtCliRuntimeError" in line]


def test_own_variable(project: Path, tmp_path: Path) -> None:
    """A variable that a model reads and that nobody has set is named."""
    broken = runs.copy(project, tmp_path / "project", {"models/own.sql": "select '{{ env_var('OWN_REGION') }}' as x\n"})
    made = python(broken, PREPARE)

    assert (1, 1, "") == (made.returncode, len(made.stdout.splitlines()), made.stderr), made.stdout
    assert "Env var required but not provided: 'OWN_REGION'" in made.stdout
