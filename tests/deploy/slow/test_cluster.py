"""A real daemon, code server and webserver on PostgreSQL, whose runs K8sRunLauncher starts as pods.

See tools/cluster.py and tools/pods.py for what stands in for Kubernetes.
"""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.slow.events import received, written
from tests.faults.server import Fault, FaultyServer, faulty
from tools import pods
from tools.cluster import Kubelet, code_server_variables, dagster_yaml, emulator, kubeconfig, variables_of
from tools.deployment import ask, is_loaded, launch, status
from tools.engines import engine_for, running
from tools.engines.process import free_port
from tools.rendering import render

pytestmark = pytest.mark.skipif(not pods.are_possible(), reason="needs root and Linux namespaces")

Say = Callable[[str, object], None]
PODS = 10
AT_ONCE = 3
# Seconds, at random: after the start of the pod for one half of the pods, after the start of the step for the other.
KILLED_AFTER = ((3, 30), (0, 20))
PASSWORD = "of a throw-away server"
TERMINAL = {"COMPLETE", "FAIL", "ABORT"}
NOTHING = "nothing was waiting"
# What the chart leaves to the owner: shorter times, so that the test takes minutes instead of half an hour, and several
# runs at once, since each has a DuckDB file of its own here.
MONITORING = {"poll_interval_seconds": 10, "start_timeout_seconds": 90}
CONCURRENCY = {"runs": {"max_concurrent_runs": AT_ONCE}, "pools": {"granularity": "run", "default_limit": AT_ONCE}}
FLOE = "import sys; from pipeline.floe.cli.main import main; sys.exit(main())"
SLOW = """
{{ config(materialized="table") }}
select count(*) as n from read_csv('{{ env_var("SLOW_FILE", "") }}')
"""
ENDLESS, SHORT = "endless.csv", "short.csv"  # the former is a pipe into which nobody writes
DAILY, MINUTELY = 'cron_schedule="0 6 * * *"', 'cron_schedule="* * * * *"'
SCHEDULE = """
query ($selector: ScheduleSelector!) { scheduleOrError(scheduleSelector: $selector) { ... on Schedule {
  scheduleState { id status ticks(limit: 20) { status runIds } }
} } }
"""
START_SCHEDULE = """
mutation ($selector: ScheduleSelector!) { startSchedule(scheduleSelector: $selector) {
  __typename ... on PythonError { message }
} }
"""
STOP_SCHEDULE = """
mutation ($id: String!) { stopRunningSchedule(id: $id) { __typename ... on PythonError { message } } }
"""
SENSOR = """
query ($selector: SensorSelector!) { sensorOrError(sensorSelector: $selector) { ... on Sensor {
  sensorState { status ticks(limit: 50) { timestamp status skipReason } }
} } }
"""
RUNS = "{ runsOrError { ... on Runs { results { runId status parentRunId } } } }"


@dataclass
class Cluster:
    """A running cluster.

    Attributes:
        server: The receiver of lineage and traces.
        kubelet: The node.
        state: The folder of the state, on the volume that all pods share.
        location: The name of the code location.
        doomed: The runs whose pods do not end by themselves.
        services: The processes of the chart, by name.
    """

    server: FaultyServer
    kubelet: Kubelet
    state: Path
    location: str
    doomed: set[str]
    services: dict[str, pods.Pod] = field(default_factory=dict)

    def selector(self, kind: str, name: str) -> dict[str, str]:
        """Return the selector of a `schedule` or `sensor` for the webserver."""
        return {
            "repositoryLocationName": self.location,
            "repositoryName": "__repository__",
            f"{kind}Name": name,
        }

    def wait(self, is_done: Callable[[], object], seconds: float, every: float = 1.0) -> None:
        """Wait until something is done, while all processes are alive; look `every` so many seconds."""
        deadline = time.monotonic() + seconds
        while not is_done():
            assert self.kubelet.error is None
            for name, service in self.services.items():
                assert service.process.poll() is None, f"{name} ended:\n{service.output[-5000:]}"
            assert time.monotonic() < deadline, self._logs()
            time.sleep(every)

    def _logs(self) -> str:
        """Return the ends of the logs of all that is alive."""
        alive = {name: pod for name, pod in self.kubelet.pods.items() if pod.process.poll() is None}
        return "\n".join(f"{name}:\n{pod.output[-3000:]}" for name, pod in (self.services | alive).items())


def job_of(run_id: str) -> str:
    """Return the name of a run's job in Kubernetes."""
    return f"dagster-run-{run_id}"


@pytest.fixture(scope="module")
def cluster(template: Path) -> Iterator[Cluster]:
    """Start all that the chart starts, from the files of a project for Kubernetes, and a node for its runs."""
    kmock = pytest.importorskip("kmock", reason="not among the packages of this session")
    database = engine_for("postgres")
    with (
        tempfile.TemporaryDirectory(prefix="floe-cluster-") as temporary,
        running(database) as server_variables,
        faulty() as server,
        emulator(kmock) as (url, _),
    ):
        folder = Path(temporary)
        folder.chmod(0o755)
        project = made_project(template, folder / "project")
        volume = pods.writable(folder / "volume")
        database.query(f"create role dagster login password '{PASSWORD}'")
        database.query("create database dagster owner dagster")
        [values] = yaml.safe_load_all((project / "deploy" / "kubernetes" / "values.yaml").read_text())
        [deployment] = values["dagster-user-deployments"]["deployments"]
        (volume / "kubeconfig").write_text(json.dumps(kubeconfig(url)))
        settings = dagster_yaml(values, int(server_variables["POSTGRES_PORT"]), f"{pods.VOLUME}/kubeconfig")
        settings["run_monitoring"] |= MONITORING
        settings["concurrency"] = CONCURRENCY
        (pods.writable(volume / "home") / "dagster.yaml").write_text(yaml.safe_dump(settings))
        (volume / SHORT).write_text("n\n1\n")
        os.mkfifo(volume / ENDLESS)
        (volume / ENDLESS).chmod(0o666)
        port = free_port()
        workspace = {"host": "127.0.0.1", "port": port, "location_name": deployment["name"]}
        (volume / "workspace.yaml").write_text(yaml.safe_dump({"load_from": [{"grpc_server": workspace}]}))
        [own] = deployment["envSecrets"]
        secrets = {
            own["name"]: {"OPENLINEAGE_URL": server.url, "OTEL_EXPORTER_OTLP_ENDPOINT": server.url, "FLOE_RAISE": "1"},
            "dagster-postgresql-secret": {"postgresql-password": PASSWORD},
        }
        of_dagster = {"DAGSTER_HOME": f"{pods.VOLUME}/home", "DAGSTER_PG_PASSWORD": PASSWORD}
        doomed: set[str] = set()

        def start(name: str, command: list[str], variables: dict[str, str]) -> pods.Pod:
            image = {  # the variables of the Dockerfile; the paths below /tmp and of the warehouse are the pod's own
                "DBT_TARGET": "prod",
                "DBT_TARGET_PATH": f"{pods.VOLUME}/pods/{name}/dbt",
                "DBT_LOG_PATH": f"{pods.VOLUME}/pods/{name}/dbt/logs",
                "DUCKDB_PATH": f"{pods.VOLUME}/pods/{name}/warehouse.duckdb",
                "LOG_FORMAT": "json",
                "TZ": "UTC",
            }
            pods.writable(volume / "pods" / name)
            return pods.Pod(project, command, image | variables, folder / f"{name}.log", volume)

        def start_run(job: str, container: dict[str, Any]) -> pods.Pod:
            file = ENDLESS if any(job == job_of(run_id) for run_id in doomed) else SHORT
            command = [*(container.get("command") or ()), *(container.get("args") or ())]
            return start(job, command, variables_of(container, secrets) | {"SLOW_FILE": f"{pods.VOLUME}/{file}"})

        with Kubelet(url, start_run) as kubelet:
            made = Cluster(server, kubelet, volume / "lineage", deployment["name"], doomed)
            arguments = ["--workspace", f"{pods.VOLUME}/workspace.yaml"]
            try:
                made.services["code-server"] = start(
                    "code-server",
                    ["dagster", "api", "grpc", "--port", str(port), *deployment["dagsterApiGrpcArgs"]],
                    of_dagster | variables_of(deployment | {"envFrom": [{"secretRef": own}]}, secrets)
                    | code_server_variables(deployment),
                )  # fmt: skip
                made.wait(lambda: is_open(port), 180)
                webserver = ["dagster-webserver", "--host", "127.0.0.1", "--port", "3000", *arguments]
                made.services["webserver"] = start("webserver", webserver, of_dagster)
                made.wait(lambda: is_loaded(made.location), 180)
                made.services["daemon"] = start("daemon", ["dagster-daemon", "run", *arguments], of_dagster)
                yield made
            finally:
                for service in made.services.values():
                    service.kill()


def is_open(port: int) -> bool:
    """Return whether a process listens at a port, as the code server does once it has loaded the project."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def made_project(template: Path, folder: Path) -> Path:
    """Render a project for Kubernetes, with a schedule that ticks each minute and a model that can take for ever."""
    project = render(template, folder, project_name="pipeline", deployment="kubernetes")
    schedules = project / "src" / "pipeline" / "defs" / "schedules.py"
    assert 1 == schedules.read_text().count(DAILY)
    schedules.write_text(schedules.read_text().replace(DAILY, MINUTELY))
    (project / "dbt" / "models" / "marts" / "slow.sql").write_text(SLOW)
    prepared = subprocess.run(
        [sys.executable, "-c", FLOE, "prepare"],
        cwd=project,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": "src", "DBT_TARGET": "prod"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert 0 == prepared.returncode, prepared.stdout + prepared.stderr
    return project


def in_journals(folder: Path) -> Counter[tuple[str, str]]:
    """Return the events in the journals of runs that were not sent completely: run id and state."""
    return written(set(folder.glob("*.ndjson")) - {folder / "last.ndjson"})


def summaries(cluster: Cluster) -> list[tuple[float, str]]:
    """Return the time and the summary of each evaluation of the sensor, the last one first."""
    state = ask(SENSOR, selector=cluster.selector("sensor", "floe_unsent"))["sensorOrError"]["sensorState"]
    assert "RUNNING" == state["status"]  # it is on without anybody's help
    return [(tick["timestamp"], tick["skipReason"] or tick["status"]) for tick in state["ticks"]]


def all_runs() -> list[dict[str, Any]]:
    """Return all runs that Dagster knows."""
    results: list[dict[str, Any]] = ask(RUNS)["runsOrError"]["results"]
    return results


def test_schedule(cluster: Cluster, record_property: Say) -> None:
    """After its owner has switched it on, the schedule ticks in the daemon, and its run ends green in a pod."""
    selector = cluster.selector("schedule", "daily")
    assert "STOPPED" == ask(SCHEDULE, selector=selector)["scheduleOrError"]["scheduleState"]["status"]
    started = ask(START_SCHEDULE, selector=selector)["startSchedule"]
    assert "message" not in started, started
    runs: list[str] = []

    def has_ticked() -> bool:
        state = ask(SCHEDULE, selector=selector)["scheduleOrError"]["scheduleState"]
        runs[:] = [run_id for tick in state["ticks"] if tick["status"] == "SUCCESS" for run_id in tick["runIds"]]
        return bool(runs)

    def is_stopped() -> bool:
        """Stop the schedule, again if the daemon was evaluating it and has written its earlier status."""
        state = ask(SCHEDULE, selector=selector)["scheduleOrError"]["scheduleState"]
        if state["status"] == "RUNNING":
            stopped = ask(STOP_SCHEDULE, id=state["id"])["stopRunningSchedule"]
            assert "message" not in stopped, stopped
        return bool(state["status"] == "STOPPED")

    cluster.wait(has_ticked, 150)
    cluster.wait(is_stopped, 30)
    run_id = runs[-1]
    cluster.wait(lambda: status(run_id) in {"SUCCESS", "FAILURE", "CANCELED"}, 240)
    pod = cluster.kubelet.pods[job_of(run_id)]
    code = pod.wait(30)

    assert ("SUCCESS", 0) == (status(run_id), code), pod.output[-3000:]
    states = received(cluster.server)
    assert ["START", "COMPLETE"] == states[run_id]
    assert run_id.replace("-", "") in {span.trace_id.hex() for span in cluster.server.spans}
    lines = [line for line in pod.output.splitlines() if line]
    assert [] == [line for line in lines if not line.startswith("{")]
    record_property(
        "summary", f"schedule: {len(states)} lineage runs, {len(cluster.server.spans)} spans of the run in a pod"
    )
    cluster.wait(lambda: is_stopped() and all(run["status"] in {"SUCCESS", "FAILURE"} for run in all_runs()), 240)


def test_ten_killed(cluster: Cluster, record_property: Say) -> None:
    """Ten pods are killed while the receiver is dead; run monitoring, retries and the sensor do the rest."""
    server, kubelet = cluster.server, cluster.kubelet
    server.go_wrong(Fault.REFUSE)
    server.events.clear()
    server.spans.clear()
    moments = random.Random()
    began = time.monotonic()
    # Run id -> seconds that its pod lives.
    of_pod: dict[str, float] = {}
    of_step: dict[str, float] = {}
    for number in range(PODS):
        run_id = launch(cluster.location)
        cluster.doomed.add(run_id)
        half = number % 2
        (of_pod, of_step)[half][run_id] = moments.uniform(*KILLED_AFTER[half])
    begun_at: dict[str, float] = {}
    killed: set[str] = set()

    def are_killed() -> bool:
        for run_id in cluster.doomed - killed:
            job = job_of(run_id)
            if any(cluster.state.glob(f"{run_id}*")):
                begun_at.setdefault(run_id, time.monotonic())
            since = kubelet.started.get(job) if run_id in of_pod else begun_at.get(run_id)
            if since and time.monotonic() > since + (of_pod | of_step)[run_id]:
                assert kubelet.pods[job].process.poll() is None, kubelet.pods[job].output[-3000:]
                kubelet.pods[job].kill()
                killed.add(run_id)
        return killed == cluster.doomed

    def retries() -> list[str]:
        return [run["status"] for run in all_runs() if run["parentRunId"] in cluster.doomed]

    cluster.wait(are_killed, 900, every=0.1)
    killed_seconds = time.monotonic() - began
    # Run monitoring notices it, and Dagster tries each run once more.
    cluster.wait(lambda: {run["status"] for run in all_runs() if run["runId"] in cluster.doomed} == {"FAILURE"}, 300)
    cluster.wait(lambda: len(retries()) == PODS and set(retries()) <= {"SUCCESS", "FAILURE"}, 900)
    assert ["SUCCESS"] * PODS == retries()
    cluster.wait(lambda: all(pod.process.poll() is not None for pod in kubelet.pods.values()), 60)
    assert [] == server.events
    before = in_journals(cluster.state)
    waited_since = time.monotonic()
    healthy_since = time.time()
    server.go_wrong()

    cluster.wait(lambda: [text for at, text in summaries(cluster) if at > healthy_since][:1] == [NOTHING], 600)
    seconds = time.monotonic() - waited_since

    states = received(server)
    arrived = Counter((run_id, state) for run_id, of_run in states.items() for state in of_run)
    evaluations = [text for at, text in reversed(summaries(cluster)) if at > healthy_since]
    assert {} == dict(before - arrived), "events were lost"
    assert {1} == set(arrived.values()), "events were sent twice"
    assert [] == [of_run for of_run in states.values() if len(of_run) != 2 or of_run[0] != "START"], evaluations
    assert [] == [of_run for of_run in states.values() if of_run[1] not in TERMINAL]
    begun = [run_id for run_id in cluster.doomed if run_id in states]
    repeated = [run["runId"] for run in all_runs() if run["parentRunId"] in cluster.doomed]
    assert {"FAIL", "ABORT"} >= {states[run_id][1] for run_id in begun}
    assert {"COMPLETE"} == {states[run_id][1] for run_id in repeated}
    roots = Counter(span.trace_id.hex() for span in server.spans if not span.parent_span_id)
    assert {run_id.replace("-", ""): 1 for run_id in (*begun, *repeated)} == dict(roots)
    assert len(server.spans) == len({span.span_id for span in server.spans})
    record_property(
        "summary",
        f"{PODS} pods killed within {killed_seconds:.0f} s, {len(begun)} of them in a step; {PODS} repeated runs "
        f"green; {before.total()} events waited, {arrived.total()} arrived, 0 lost, 0 twice; {len(states)} lineage "
        f"runs with one start and one end each; {roots.total()} root spans of {len(server.spans)}; {seconds:.0f} s and "
        f"{len(evaluations)} evaluations of the sensor until nothing was waiting: {evaluations}",
    )
    assert len(begun) >= PODS / 2
