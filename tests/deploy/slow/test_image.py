"""A project's image, built from its Dockerfile as it is, and the processes of its compose.yaml on a real PostgreSQL.

See tools/images.py and tools/deployment.py for what stands in for a container engine.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tools.deployment import CODE_SERVER, DAEMON, USER, WEBSERVER, Deployment, Service, status
from tools.engines import engine_for, running
from tools.images import Image, build, check_programs
from tools.receiver import Receiver, receiver
from tools.rendering import facts, render, run

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="building and entering images without a daemon needs root")
LOCAL, SERVER = "duckdb", "postgres"
PASSWORD = "of a throw-away server"
# Bytes, with Debian's Python below; the figures of a build are in the summary.
SIZES = {LOCAL: 700_000_000, SERVER: 650_000_000}
Say = Callable[[str, object], None]


@dataclass(frozen=True)
class Deployed:
    """A running deployment and what it sends to."""

    target: str
    image: Image
    deployment: Deployment
    receiver: Receiver


@pytest.fixture(scope="module", params=[LOCAL, SERVER])
def deployed(
    request: pytest.FixtureRequest, template: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployed]:
    """Build the image of a project for a target, start all processes, and stop them at the end."""
    check_programs()
    target = request.param
    folder = tmp_path_factory.mktemp(target)
    folder.chmod(0o755)
    project = render(template, folder / "project", project_name="pipeline", compute_target=target, deployment="compose")
    locked = run("uv", "lock", cwd=project, SSL_CERT_FILE=os.environ.get("SSL_CERT_FILE", ""))
    assert 0 == locked.returncode, locked.stderr
    image = build(project, f"localhost/{target}:test")
    database = engine_for(SERVER)
    with running(database) as variables, receiver() as received:
        database.query(f"create role dagster login password '{PASSWORD}'")
        database.query("create database dagster owner dagster")
        own = {name: value for name, value in variables.items() if name in facts(target)["variables"]}
        deployment = Deployment(
            image,
            project,
            folder / "deployment",
            own
            | {
                "DAGSTER_POSTGRES_HOST": variables["POSTGRES_HOST"],
                "DAGSTER_POSTGRES_PORT": variables["POSTGRES_PORT"],
                "DAGSTER_POSTGRES_PASSWORD": PASSWORD,
                "OPENLINEAGE_URL": received.url,
                "OTEL_EXPORTER_OTLP_ENDPOINT": received.url,
            },
        )
        try:
            deployment.start_all()
            yield Deployed(target, image, deployment, received)
        finally:
            deployment.stop()
            deployment.image.remove()


def test_image(deployed: Deployed, record_property: Say) -> None:
    """The image has a manifest, bytecode and labels, but no secrets, no uv, and DuckDB only for its own target."""
    image = deployed.image
    app = image.root / "app"
    packages = {path.name for path in (app / ".venv" / "lib").glob("python3.*/site-packages/*")}

    assert (app / "dbt" / "target" / "manifest.json").is_file()
    assert [] != list((app / "src" / "pipeline" / "floe" / "__pycache__").glob("run.*.pyc"))
    assert [] != list(app.glob(".venv/lib/*/site-packages/dagster/__pycache__/version.*.pyc"))
    assert (deployed.target == LOCAL) == ("duckdb" in packages)
    assert [] == [name for name in ("pytest", "mypy", "ruff", "dagster_dg_cli") if name in packages]
    assert {"title", "description", "revision", "version"} == {
        name.rpartition(".")[2] for name in image.labels if name.startswith("org.opencontainers.image.")
    }
    assert image.user.partition(":")[0].isdigit()
    assert not image.user.startswith("0")
    assert not (app / ".env").exists()
    assert not (image.root / "usr" / "local" / "bin" / "uv").exists()
    assert image.size < SIZES[deployed.target]
    record_property("summary", f"image for {deployed.target}: {image.size / 1e6:.0f} MB unpacked")


def test_user(deployed: Deployed) -> None:
    """The processes run as a user whom the image does not know, without capabilities, and can write nowhere else."""
    service = deployed.deployment.services[CODE_SERVER]
    children = Path(f"/proc/{service.process.pid}/task/{service.process.pid}/children").read_text().split()
    facts_of_process = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{children[0]}/status").read_text().splitlines() if ":\t" in line
    )
    assert [str(USER)] * 4 == facts_of_process["Uid"].split()
    assert {"0000000000000000"} == {facts_of_process["CapEff"], facts_of_process["CapPrm"]}
    assert "1" == facts_of_process["NoNewPrivs"]
    mounts = Path(f"/proc/{children[0]}/mountinfo").read_text().splitlines()
    of_root = [line.split() for line in mounts if line.split()[4] == "/"]
    assert of_root
    assert of_root[-1][5].startswith("ro")


def test_run(deployed: Deployed, record_property: Say) -> None:
    """A run from the queue is green; its lineage and its spans arrive."""
    services = deployed.deployment.services
    idle = {name: service.memory for name, service in services.items()}
    deployed.deployment.peaks.clear()

    run_id = deployed.deployment.launch()

    assert "SUCCESS" == deployed.deployment.finished(run_id)
    events = [event for event in deployed.receiver.events if event["eventType"] == "COMPLETE"]
    outputs = {dataset["name"].rpartition(".")[2] for event in events for dataset in event.get("outputs", [])}
    assert {"orders", "customers", "daily_revenue"} <= outputs
    assert run_id.replace("-", "") in {span.trace_id.hex() for span in deployed.receiver.spans}
    record_property(
        "summary",
        f"run from the queue on {deployed.target}: {len(deployed.receiver.events)} events,"
        f" {len(deployed.receiver.spans)} spans; memory in MB, idle and at most during the run:"
        f" {', '.join(f'{name} {idle[name] >> 20} {deployed.deployment.peaks[name] >> 20}' for name in services)}",
    )


def test_two_runs(deployed: Deployed) -> None:
    """Two runs at once on a warehouse that is a file: the second waits in the queue, and the daemon says so."""
    if deployed.target != LOCAL:
        pytest.skip("runs that build the same models at once are up to the owner: see docs/deploy.md")
    before = len(deployed.deployment.services[DAEMON].lines)
    runs = [deployed.deployment.launch() for _ in range(2)]
    together: set[tuple[str, ...]] = set()

    def have_ended() -> bool:
        found = tuple(status(run_id) for run_id in runs)
        together.add(found)
        return set(found) <= {"SUCCESS", "FAILURE"}

    deployed.deployment.wait(have_ended, 400, DAEMON)

    assert ["SUCCESS"] * 2 == [status(run_id) for run_id in runs]
    assert ("STARTED", "STARTED") not in together
    lines = deployed.deployment.services[DAEMON].lines[before:]
    assert [] != [line for line in lines if "warehouse" in line and "blocked" in line.lower()], lines


def test_logs(deployed: Deployed) -> None:
    """Each line that a process has printed, on either stream, is a JSON object."""
    for name in (CODE_SERVER, WEBSERVER, DAEMON):
        lines = deployed.deployment.services[name].lines
        assert lines, name
        assert [] == [line for line in lines if not _is_object(line)], name


def test_stop(deployed: Deployed, record_property: Say) -> None:
    """Each process ends within the grace period after SIGTERM, which reaches it as process 1."""
    seconds = deployed.deployment.stop()

    assert max(seconds.values()) < 30
    record_property("summary", f"SIGTERM to end: {', '.join(f'{name} {took:.1f} s' for name, took in seconds.items())}")


def test_existing(template: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The image of a project beside an existing dbt project has both and no secrets; its server needs no variables."""
    check_programs()
    folder = tmp_path_factory.mktemp("existing")
    folder.chmod(0o755)
    sample = render(template, folder / "sample", project_name="pipeline")
    repository = folder / "repository"
    answers = {"start_from": "existing", "dbt_project_dir": "../transform", "folder_in_repository": "pipeline"}
    project = render(template, repository / "pipeline", project_name="pipeline", deployment="compose", **answers)
    shutil.copytree(sample / "dbt", repository / "transform", ignore=shutil.ignore_patterns("profiles.yml"))
    for secret in (repository / ".env", project / ".env", repository / "transform" / ".env"):
        secret.write_text("DAGSTER_POSTGRES_PASSWORD=secret\n")
    [settings] = yaml.safe_load_all((project / "compose.yaml").read_text())
    of_image = settings["x-image"]["build"]

    image = build(project / of_image["context"], "localhost/existing:test", of_image["dockerfile"])
    deployment = Deployment(image, project, folder / "deployment", {"DAGSTER_POSTGRES_PASSWORD": PASSWORD})
    try:
        deployment.services[CODE_SERVER] = Service(image, image.command, {}, deployment.volume)
        deployment.wait(lambda: deployment.is_healthy(image.health_check), 180, CODE_SERVER)
    finally:
        deployment.stop()
        files = {path.name for path in (image.root / "app").rglob("*") if ".venv" not in path.parts}
        image.remove()
    assert {
        "manifest.json",
        "dbt_project.yml",
        "uv.lock",
    } <= files  # the build has made a lock file, since there was none
    assert ".env" not in files


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False
