"""The checks of the recipes: what a reader should see after each, and the situation in which the reader starts."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tools.rendering import run

INSTALLATION = ("UV_INDEX", "UV_DEFAULT", "PIP", "SSL")  # variables
# A model that fails in the first dbt command and succeeds in the next one.
FLAKY = "select id from {{ target.schema }}.attempted\n"
AFTER_FIRST_ATTEMPT = "\non-run-end: create table if not exists attempted as select 1 as id\n"
ROWS = "import duckdb, json, sys; print(json.dumps(duckdb.connect(sys.argv[1]).sql(sys.argv[2]).fetchall()))"
# A job that selects nothing, which the test that the owner has should notice.
EMPTY_JOB = """import dagster as dg

empty = dg.define_asset_job("empty", selection="tag:no_such_tag")
"""


@dataclass(frozen=True)
class Project:
    """A copy of the rendered project, in which a recipe's commands run.

    Attributes:
        folder: Its root.
        environment: The variables of its commands, in addition to PATH and HOME.
        output: The output of the recipe's commands.
    """

    folder: Path
    environment: Mapping[str, str]
    output: list[str] = field(default_factory=list)

    def sh(self, script: str) -> tuple[int, str]:
        """Run a block of commands as a reader does who stops at the first error; return the exit code and output."""
        done = self._run("bash", "-euo", "pipefail", "-c", script)
        return done.returncode, done.stdout + done.stderr

    def rows(self, query: str) -> list[list[object]]:
        """Return the result of a query in the warehouse."""
        warehouse = str(self.folder / "local" / "warehouse.duckdb")
        done = self._run("uv", "run", "python", "-c", ROWS, warehouse, query)
        assert 0 == done.returncode, done.stderr
        rows: list[list[object]] = json.loads(done.stdout)
        return rows

    def write(self, path: str, text: str) -> None:
        """Write a file."""
        (self.folder / path).write_text(text)

    def _run(self, *command: str) -> subprocess.CompletedProcess[str]:
        # What uv needs to install from this machine's package index.
        inherited = {name: value for name, value in os.environ.items() if name.startswith(INSTALLATION)}
        return run(*command, cwd=self.folder, **inherited, **self.environment)

    @property
    def text(self) -> str:
        """Return all output of the recipe's commands."""
        return "".join(self.output)


@dataclass(frozen=True)
class Check:
    """The check of a recipe.

    Attributes:
        see: A function that asserts what a reader sees after the commands.
        before: A function that makes the situation in which the reader needs the recipe.
    """

    see: Callable[[Project], None]
    before: Callable[[Project], None] = lambda _: None


def sees_part(project: Project) -> None:
    """Check that the tag is listed and the model is built; a misspelt key and a misspelt tag fail and build nothing."""
    wrong_key, key_error = project.sh("uv run dg launch --assets custmers")
    wrong_tag, tag_error = project.sh("uv run dg launch --assets tag:finanze")

    assert "daily_revenue" in project.text
    assert "OK created sql table model main.customers" in project.text
    assert "OK created sql table model main.orders" not in project.text
    assert (1, 1) == (wrong_key, wrong_tag), key_error + tag_error
    assert '"customers"' in key_error
    assert "No asset matches the selection of this run" in tag_error
    assert "OK created" not in key_error + tag_error


def sees_job(project: Project) -> None:
    """Check that the job builds the models with the tag; the owner's test fails for a job that selects nothing."""
    project.write("src/my_pipeline/defs/empty.py", EMPTY_JOB)
    code, tested = project.sh("uv run pytest tests/test_project.py")

    assert "OK created sql incremental model main.daily_revenue" in project.text
    assert "model main.customers" not in project.text
    assert 'run for "finance"' in project.text
    assert 1 == code, tested
    assert "1 failed" in tested
    assert "['empty']" in tested


def has_old_row(project: Project) -> None:
    """Add a row to the incremental table that its SQL does not yield."""
    assert [[1]] == project.rows("insert into daily_revenue (ordered_on) values (date '1999-01-01') returning 1")


def sees_full_refresh(project: Project) -> None:
    """Check that the table was made again, without the row that was added."""
    assert [[0]] == project.rows("select count(*) from daily_revenue where ordered_on < date '2000-01-01'")


def sees_variable(project: Project) -> None:
    """Check that dbt got the value."""
    assert """--vars {"refund_window_days": 90}""" in project.text


def sees_days(project: Project) -> None:
    """Check that the table has the days of the range, from one run; everything else can still be launched."""
    code, listed = project.sh("uv run dg list defs --assets 'not tag:by_day'")

    assert [["2026-03-01", "2026-03-31"]] == project.rows(
        "select min(ordered_on)::varchar, max(ordered_on)::varchar from orders_by_day"
    )
    assert 1 == project.text.count("Running dbt command")
    assert 0 == code, listed
    assert "daily_revenue" in listed
    assert "orders_by_day" not in listed


def has_flaky_model(project: Project) -> None:
    """Add a model that fails at first, and one that is skipped because of it."""
    project.write("dbt/models/marts/flaky.sql", FLAKY)
    project.write("dbt/models/marts/after_flaky.sql", "select * from {{ ref('flaky') }}\n")
    with (project.folder / "dbt" / "dbt_project.yml").open("a") as file:
        file.write(AFTER_FIRST_ATTEMPT)


def sees_retry(project: Project) -> None:
    """Check that both models were built by the second command, which ran nothing else."""
    assert [[1]] == project.rows("select id from after_flaky")
    assert "ERROR=1 SKIP=1" in project.text
    assert "PASS=3 WARN=0 ERROR=0" in project.text  # with the hook


def sees_request(project: Project) -> None:
    """Check that the preview shows a run with an empty configuration."""
    assert "{}" in project.text.splitlines()


def sees_rates(project: Project) -> None:
    """Check that the model has the rows that Python loaded."""
    assert [["GBP", 0.86], ["USD", 1.08]] == project.rows("from stg_rates order by currency")


def sees_file(project: Project) -> None:
    """Check that the file has a line for each customer."""
    [[count]] = project.rows("select count(*) from customers")
    header, *lines = (project.folder / "local" / "mailing_list.csv").read_text().splitlines()

    assert "full_name,email" == header
    assert len(lines) == count


def sees_second_project(project: Project) -> None:
    """Check that the table is in the warehouse, and lineage has an event of the model."""
    events = [json.loads(line) for line in (project.folder / "events.ndjson").read_text().splitlines()]
    ends = {event["job"]["name"]: event["eventType"] for event in events if event["eventType"] != "START"}

    assert [["spring", 1200]] == project.rows("from campaigns")
    assert "COMPLETE" == ends["model.marketing.campaigns"], ends
    assert "COMPLETE" == ends["dbt.marketing"], ends


def writes_events(project: Project) -> None:
    """Let lineage go to a file."""
    names = {"TYPE": "file", "LOG_FILE_PATH": str(project.folder / "events.ndjson"), "APPEND": "true"}
    project.write(".env", "".join(f"OPENLINEAGE__TRANSPORT__{name}={value}\n" for name, value in names.items()))


def sees_new_name(project: Project) -> None:
    """Check that the project loads under its new name, and the old one is in no tracked file."""
    code, checked = project.sh("uv run dg check defs && uv run ruff check && uv run floe --help")
    _, left = project.sh("git grep -nE 'my[-_]pipeline' || true")

    assert 0 == code, checked
    assert "" == left
    assert (project.folder / "src" / "shop" / "definitions.py").is_file()
    assert not (project.folder / "src" / "my_pipeline").exists()
    assert "package_name: shop\n" in (project.folder / ".copier-answers.yml").read_text()


def has_endpoint(project: Project) -> None:
    """Set an endpoint for lineage."""
    project.write(".env", "OPENLINEAGE_URL=http://127.0.0.1:9\n")


def sees_lineage_off(project: Project) -> None:
    """Check that the doctor names the variable."""
    [line] = [line for line in project.text.splitlines() if "OPENLINEAGE_DISABLED=true" in line]

    assert line.startswith("·"), line


def sees_owners(project: Project) -> None:
    """Check that the assets of both selections are listed, and no other; each classified column has a line."""
    assert "daily_revenue" in project.text
    assert "customer_cohorts" not in project.text
    assert "customers email pii email high" in project.text.splitlines()


def sees_docs(project: Project) -> None:
    """Check that the page and the catalog are there."""
    assert "<html" in (project.folder / "dbt" / "target" / "static_index.html").read_text()
    assert (project.folder / "dbt" / "target" / "catalog.json").is_file()


def has_change(project: Project) -> None:
    """Keep production's manifest, and change a model."""
    (project.folder / "local" / "production").mkdir()
    shutil.copy(project.folder / "dbt" / "target" / "manifest.json", project.folder / "local" / "production")
    model = project.folder / "dbt" / "models" / "marts" / "orders.sql"
    model.write_text(model.read_text() + "-- changed\n")


def sees_changed(project: Project) -> None:
    """Check that the schema has the changed model and those downstream of it; their other inputs are production's."""
    tables = project.rows("select table_name from duckdb_tables() where schema_name = 'ci' order by all")

    expected = ["customer_cohorts", "customer_history", "customers", "daily_revenue", "orders"]

    assert [[name] for name in expected] == tables


# By the heading of the recipe.
CHECKS = {
    "Build a part of the assets": Check(sees_part),
    "Add a job and a schedule": Check(sees_job),
    "Rebuild an incremental model": Check(sees_full_refresh, before=has_old_row),
    "Set dbt variables for one run": Check(sees_variable),
    "Build a model by day, and backfill it": Check(sees_days),
    "Try failed models again": Check(sees_retry, before=has_flaky_model),
    "Build when a file changes": Check(sees_request),
    "Load a source with Python": Check(sees_rates),
    "Use a model in Python": Check(sees_file),
    "Add a second dbt project": Check(sees_second_project, before=writes_events),
    "Rename the project": Check(sees_new_name),
    "Turn lineage off": Check(sees_lineage_off, before=has_endpoint),
    "See who owns what, and where personal data is": Check(sees_owners),
    "Make dbt's documentation": Check(sees_docs),
    "Build only what a pull request changes": Check(sees_changed, before=has_change),
}
