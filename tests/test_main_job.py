"""Test of the main job as a new user does it: the bare command, install, check, build, test; with a real endpoint."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from demo import SUMMARY
from tools.receiver import Receiver, receiver
from tools.rendering import REPOSITORY, run, snapshot

pytestmark = pytest.mark.xdist_group("main_job")

PUBLIC = "https://github.com/org/floe-template.git"
BUILT = {"model", "seed", "snapshot"}
ASSETS = """
import json, sys
from my_pipeline.definitions import defs
graph = defs().resolve_asset_graph()
built = set(graph.materializable_asset_keys)
for key in built:  # each can be launched by itself
    defs().resolve_implicit_global_asset_job_def().get_subset(asset_selection={key})
json.dump({
    "assets": sorted(key.to_user_string() for key in built),
    "upstream": sorted(key.to_user_string() for key in set(graph.get_all_asset_keys()) - built),
    "checks": sorted(f"{key.asset_key.to_user_string()}:{key.name}" for key in graph.asset_check_keys),
}, sys.stdout)
"""


def readme_command(line: str) -> list[str]:
    """Return a command of the README as words; fail if the README has it no longer."""
    assert line in (REPOSITORY / "README.md").read_text()
    return [word.strip("'") for word in line.split()]


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Receiver]:
    """Return a project that the bare command made and Dagster built, and what the endpoint was sent."""
    folder = tmp_path_factory.mktemp("main_job")
    repository = snapshot(folder / "released")
    git = ("git", "-c", "user.name=t", "-c", "user.email=t@example.com")
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "release"], ["tag", "v0.1.0"]):
        assert 0 == run(*git, *command, cwd=repository).returncode
    (folder / "gitconfig").write_text(f'[url "{repository}"]\n\tinsteadOf = {PUBLIC}\n')

    copy = run(
        *readme_command("copier copy gh:org/floe-template my-pipeline"),
        "--defaults",
        cwd=folder,
        GIT_CONFIG_GLOBAL=str(folder / "gitconfig"),
    )
    assert 0 == copy.returncode, copy.stderr
    project = folder / "my-pipeline"
    uv(project, "uv", "sync", "--quiet")
    uv(project, "uv", "run", "dg", "check", "defs")
    (project / ".dagster").mkdir()
    with receiver() as endpoint:
        uv(
            project,
            *readme_command("uv run dg launch --assets '*'"),
            DAGSTER_HOME=str(project / ".dagster"),
            OPENLINEAGE_URL=endpoint.url,
            OTEL_EXPORTER_OTLP_ENDPOINT=endpoint.url,
            LOG_FORMAT="json",
        )
    return project, endpoint


def uv(project: Path, *command: str, **environment: str) -> str:
    """Run a command in the project's own environment and return what it prints."""
    kept = {
        name: value for name, value in os.environ.items() if name.startswith(("UV_INDEX", "UV_DEFAULT", "PIP", "SSL"))
    }
    path = {"PATH": f"{Path(shutil.which('uv') or 'uv').parent}:/usr/bin:/bin"}
    done = run(*command, cwd=project, **(kept | path | {"DAGSTER_CLI_TELEMETRY": "0"} | environment))
    assert 0 == done.returncode, done.stdout + done.stderr
    return done.stdout


def manifest(project: Path) -> dict[str, Any]:
    """Return dbt's manifest."""
    loaded: dict[str, Any] = json.loads((project / "dbt" / "target" / "manifest.json").read_bytes())
    return loaded


def executed(project: Path) -> set[str]:
    """Return the unique ids that a build executes."""
    told = manifest(project)
    nodes = {key for key, node in told["nodes"].items() if node["config"].get("materialized") != "ephemeral"}
    return nodes | set(told["unit_tests"])


def test_assets(job: tuple[Path, Receiver]) -> None:
    """Assets are dbt's models, seeds and snapshots, and each test is a check on its asset."""
    project, _ = job
    told = manifest(project)
    nodes = {uid: node for uid, node in told["nodes"].items() if node["config"].get("materialized") != "ephemeral"}

    found = json.loads(uv(project, "uv", "run", "python", "-c", ASSETS))

    assert sorted(node["name"] for node in nodes.values() if node["resource_type"] in BUILT) == found["assets"]
    # Dagster takes the source for the seed that lands its table: they have one `dagster/table_name`.
    assert [] == found["upstream"]
    assert (
        sorted(f"{asset_of(told, node)}:{node['name']}" for node in nodes.values() if node["resource_type"] == "test")
        == found["checks"]
    )


def asset_of(told: dict[str, Any], test: dict[str, Any]) -> str:
    """Return the name of the asset that a test tells of."""
    named = test["config"]["meta"].get("dagster", {}).get("ref", {}).get("name")
    parent = test.get("attached_node") or test["depends_on"]["nodes"][0]
    return str(named or told["nodes"][parent]["name"])


def test_told_to_dagster(job: tuple[Path, Receiver]) -> None:
    """Dagster has recorded each asset as built and each check as passed, and what was sent, in the run's tags."""
    project, endpoint = job
    told = manifest(project)["nodes"].values()
    built = sum(n["resource_type"] in BUILT and n["config"]["materialized"] != "ephemeral" for n in told)
    checks = sum(node["resource_type"] == "test" for node in told)

    run_of = json.loads(uv(project, "uv", "run", "python", "-c", SUMMARY, DAGSTER_HOME=str(project / ".dagster")))

    assert (built, checks, checks) == (run_of["assets"], run_of["checks"], run_of["passed"])
    assert {"floe/lineage": f"{len(endpoint.events)} sent", "floe/traces": f"{len(endpoint.spans)} sent"} == {
        name: run_of["tags"][name] for name in ("floe/lineage", "floe/traces")
    }


def test_lineage(job: tuple[Path, Receiver]) -> None:
    """Each node, and the command itself, starts once and completes once."""
    project, endpoint = job
    events = Counter((event["job"]["name"], event["eventType"]) for event in endpoint.events)

    nodes = {name for name, _ in events if name.partition(".")[0] in BUILT | {"test", "unit_test"}}
    assert executed(project) == nodes
    assert {"dbt.my_pipeline", "my_pipeline.assets"} == {name for name, _ in events} - nodes
    assert {1} == set(events.values())
    assert {"START", "COMPLETE"} == {kind for _, kind in events}


def test_trace(job: tuple[Path, Receiver]) -> None:
    """All spans are in one trace, whose id is the run's, with one root and no orphan."""
    project, endpoint = job
    (run_folder,) = (path for path in (project / "dbt" / "target").iterdir() if path.name.startswith("dbt_models-"))
    ids = {span.span_id for span in endpoint.spans}
    (trace,) = {span.trace_id.hex() for span in endpoint.spans}

    assert trace.startswith(run_folder.name.split("-")[1])
    assert ["run my_pipeline.assets"] == [span.name for span in endpoint.spans if not span.parent_span_id]
    assert {span.parent_span_id for span in endpoint.spans} - {b""} <= ids
    assert executed(project) <= {span.name for span in endpoint.spans}


def test_metrics(job: tuple[Path, Receiver]) -> None:
    """The step's numbers arrive: one duration a node, and what became of lineage."""
    project, endpoint = job
    metrics = {metric.name: metric for metric in endpoint.metrics}

    durations = sum(point.count for point in metrics["dbt.node.duration"].histogram.data_points)
    sent = sum(point.as_int for point in metrics["floe.lineage.events"].sum.data_points)
    assert (len(executed(project)), len(endpoint.events)) == (durations, sent)


def test_own_tests(job: tuple[Path, Receiver]) -> None:
    """The project's own tests are green from the first minute."""
    assert re.search(r"\d+ passed", uv(job[0], "uv", "run", "pytest", "-q"))


def test_nothing_outside_git(job: tuple[Path, Receiver]) -> None:
    """The owner's secrets, and what install and build leave behind but for uv.lock, are ignored by git and images."""
    project, _ = job
    (project / ".env").write_text("SNOWFLAKE_PASSWORD=secret\n")
    run("git", "init", "-q", cwd=project)
    run("git", "add", "-A", cwd=project)
    tracked = run("git", "ls-files", cwd=project).stdout.split()

    unwanted = re.compile(r"\.duckdb|/target/|\.venv|__pycache__|^\.dagster|^storage|\.log$|^\.env$")
    assert [] == [name for name in tracked if unwanted.search(name)]
    assert "uv.lock" in tracked
    ignored = {line.removeprefix("**/").rstrip("*/") for line in (project / ".dockerignore").read_text().splitlines()}
    there = {".dagster", ".env", ".floe", ".git", ".venv"} & {path.name for path in project.iterdir()}
    assert {".env", ".git", ".venv"} <= there <= ignored
