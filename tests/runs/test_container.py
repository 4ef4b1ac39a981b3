"""Tests of runs as containers run them: a read-only project, an arbitrary user, no home, and an end by SIGTERM."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import dagster as dg
import pytest
from dagster._core.instance.ref import InstanceRef
from dagster._core.launcher import LaunchRunContext

from tools import pods, runs
from tools.cluster import emulator, kubeconfig
from tools.receiver import Receiver, receiver

pytestmark = pytest.mark.skipif(not pods.are_possible(), reason="needs root and Linux namespaces")

FLOE = "import sys; from pipeline.floe.cli.main import main; sys.exit(main())"
SLOW = """
{{ config(materialized="table") }}
select count(*) as n from range({{ env_var('SLOW_ROWS', '1') }}) as rows(i) where hash(i) % 7 = 3
"""


@pytest.fixture(scope="module")
def disk() -> Iterator[Path]:
    """Return a folder that every user may read, unlike pytest's own."""
    with tempfile.TemporaryDirectory(prefix="floe-pods-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture(scope="module")
def image(project: Path, disk: Path) -> Path:
    """Return a copy of the default project with the manifest that an image has, and a model that can take long."""
    copied = runs.copy(project, disk / "project", {"models/marts/slow.sql": SLOW})
    made = subprocess.run(
        [sys.executable, "-c", FLOE, "prepare"],
        cwd=copied,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": "src", "DBT_TARGET": "prod"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert 0 == made.returncode, made.stdout + made.stderr
    return copied


@pytest.fixture
def volume(disk: Path) -> Path:
    """Return the folder in which everything that a run writes has a place."""
    made = pods.writable(disk / uuid4().hex)
    (pods.writable(made / "dagster") / "dagster.yaml").write_text(runs.INSTANCE)
    return made


def endpoints(server: Receiver) -> dict[str, str]:
    """Return the variables that send lineage and traces to a receiver."""
    return {"OPENLINEAGE_URL": server.url, "OTEL_EXPORTER_OTLP_ENDPOINT": server.url}


def until(condition: Callable[[], object], pod: pods.Pod, seconds: float = 90) -> None:
    """Wait until a condition holds, while the pod is alive."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert pod.process.poll() is None, pod.output[-5000:]
        assert time.monotonic() < deadline, pod.output[-5000:]
        time.sleep(0.1)


@pytest.mark.parametrize("config", [runs.IN_PROCESS, runs.multiprocess("spawn")], ids=["one process", "per step"])
def test_read_only(image: Path, volume: Path, config: dict[str, object]) -> None:
    """A run builds everything in a project that it cannot change; lineage and traces arrive, each log line is JSON."""
    command = [sys.executable, "launch.py", runs.ALL, json.dumps(config), "{}"]
    with receiver() as server:
        pod = pods.Pod(image, command, pods.variables(volume) | endpoints(server), volume / "log")
        code = pod.wait(180)

    assert 0 == code, pod.output[-3000:]
    tags = json.loads(next(line for line in pod.output.splitlines() if line.startswith("TAGS "))[5:])
    assert f"{len(server.events)} sent" == tags["floe/lineage"]
    assert f"{len(server.spans)} sent" == tags["floe/traces"]
    assert "model.pipeline.orders" in {span.name for span in server.spans}
    others = [line for line in pod.output.splitlines() if not line.startswith(("{", "RUN ", "TAGS "))]
    assert [] == others
    assert [] == [level for level in map(level_of, pod.output.splitlines()) if level in {"warning", "error"}]
    assert {"columns.json", "lineage"} <= {file.name for file in (volume / "state").iterdir()}


def level_of(line: str) -> str:
    """Return the level of a line of the log."""
    return str(json.loads(line)["level"]) if line.startswith("{") else ""


def test_doctor(image: Path, volume: Path) -> None:
    """The doctor finds nothing wrong with a read-only project and its image's manifest."""
    with receiver() as server:
        command = [sys.executable, "-c", FLOE, "doctor", "--json"]
        pod = pods.Pod(image, command, pods.variables(volume) | endpoints(server), volume / "log")
        code = pod.wait(60)

    assert 0 == code, pod.output
    findings = json.loads(pod.output[pod.output.index("[") :])
    assert [] == [finding for finding in findings if finding["state"] in {"warn", "fail"}]
    (manifest,) = (finding for finding in findings if finding["check"] == "manifest")
    assert str(image / "dbt" / "target") in manifest["message"] or "made" in manifest["message"]


def test_doctor_without_target_path(image: Path, volume: Path) -> None:
    """The doctor names the variable that a read-only project needs, in one line."""
    variables = pods.variables(volume)
    for name in ("DBT_TARGET_PATH", "DBT_LOG_PATH"):
        del variables[name]
    pod = pods.Pod(image, [sys.executable, "-c", FLOE, "doctor", "--json"], variables, volume / "log")
    code = pod.wait(60)

    assert 1 == code, pod.output
    findings = json.loads(pod.output[pod.output.index("[") :])
    (folder,) = (finding for finding in findings if finding["check"] == "target folder")
    assert "fail" == folder["state"]
    assert f"{image / 'dbt' / 'target'} cannot be written" in folder["message"]
    assert "set DBT_TARGET_PATH to a writable folder" in folder["message"]


def test_term(image: Path, volume: Path) -> None:
    """A run's own process that gets SIGTERM, as process 1 of its pod, tells the end of all that it has started."""
    with receiver() as server:
        variables = pods.variables(volume) | endpoints(server) | {"SLOW_ROWS": "90000000000"}
        ((run_id, command),) = pods.create_runs(image, runs.ALL, 1, variables, runs.IN_PROCESS).items()
        pods.open_to_all(volume)
        pod = pods.Pod(image, command, variables, volume / "log")
        until(lambda: any(event["job"]["name"] == "model.pipeline.slow" for event in server.events), pod)
        time.sleep(3)  # DuckDB does not notice an interruption before it executes the query
        pod.terminate()
        began = time.monotonic()
        pod.wait(30)  # the grace period of Kubernetes
        seconds = time.monotonic() - began

    states: dict[str, list[str]] = {}
    for event in server.events:
        states.setdefault(event["run"]["runId"], []).append(event["eventType"])
    assert [] == [found for found in states.values() if len(found) != 2], pod.output[-3000:]
    assert states[run_id] in (["START", "ABORT"], ["START", "FAIL"])
    assert {"run everything", "step dbt_models", "model.pipeline.slow"} <= {span.name for span in server.spans}
    assert seconds < 15


def test_two_at_once(image: Path, volume: Path) -> None:
    """Of two runs on one DuckDB file, the second waits, says so, and then builds as well."""
    command = [sys.executable, "launch.py", runs.ALL, json.dumps(runs.IN_PROCESS), "{}"]
    variables = pods.variables(volume)
    with receiver() as server:
        slow = {"SLOW_ROWS": "4000000000"}  # takes longer than a start
        first = pods.Pod(image, command, variables | endpoints(server) | slow, volume / "first.log")
        until(lambda: any(event["job"]["name"] == "model.pipeline.slow" for event in server.events), first)
        second = pods.Pod(image, command, variables, volume / "second.log")
        until(lambda: "Another run is using" in second.output, second)
        assert first.process.poll() is None
        codes = first.wait(180), second.wait(180)

    assert (0, 0) == codes
    assert "Another run" not in first.output
    for pod in (first, second):
        assert "PASS=54 WARN=0 ERROR=0" in pod.output, pod.output[-3000:]
    waited = next(line for line in second.output.splitlines() if "Waited " in line)
    assert str(volume / "warehouse.duckdb") in json.loads(waited)["event"]


def test_launched(image: Path, volume: Path) -> None:
    """A run that K8sRunLauncher launches ends green in a pod; the API server is an emulator, the pod a process here."""
    kmock = pytest.importorskip("kmock", reason="not among the packages of this session")
    dagster_k8s = pytest.importorskip("dagster_k8s", reason="not among the packages of this session")
    with receiver() as server, emulator(kmock) as (url, objects):
        variables = pods.variables(volume) | endpoints(server)
        ((run_id, _),) = pods.create_runs(image, runs.ALL, 1, variables, runs.IN_PROCESS).items()
        configuration = volume / "kubeconfig"
        configuration.write_text(json.dumps(kubeconfig(url)))
        with dg.DagsterInstance.from_ref(InstanceRef.from_dir(str(volume / "dagster"))) as instance:
            launcher = dagster_k8s.K8sRunLauncher(
                service_account_name="dagster",
                instance_config_map="dagster-instance",
                job_image="pipeline:1",
                dagster_home=str(volume / "dagster"),
                load_incluster_config=False,
                kubeconfig_file=str(configuration),
            )
            launcher.register_instance(instance)
            run = instance.get_run_by_id(run_id)
            assert run is not None
            launcher.launch_run(LaunchRunContext(dagster_run=run, workspace=None))
            (job,) = (dict(made) for key, made in objects.items() if "jobs" in str(key[0]))
            (container,) = job["spec"]["template"]["spec"]["containers"]
            pods.open_to_all(volume)
            command = [*(container.get("command") or []), *(container.get("args") or [])]
            pod = pods.Pod(image, command, variables, volume / "log")
            code = pod.wait(180)
            ended = instance.get_run_by_id(run_id)

    assert 0 == code, pod.output[-3000:]
    assert ended is not None
    assert (dg.DagsterRunStatus.SUCCESS, "pipeline:1") == (ended.status, container["image"])
    assert f"{len(server.events)} sent" == ended.tags["floe/lineage"]
    assert 2 == [event["run"]["runId"] for event in server.events].count(run_id)
