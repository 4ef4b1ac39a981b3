"""A cluster without Kubernetes: an emulated API server, and the processes of Dagster's chart as pods of this machine.

The API server is kmock's, which stores objects, but knows neither controllers nor selectors. `Kubelet` stands for the
controller of jobs and for a node: it starts the container of each job as a pod, and reports how it ended.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tools.pods import Pod

JOBS = "/apis/batch/v1/namespaces/default/jobs"
POLL_SECONDS = 0.2
TIMEOUT_SECONDS = 30


@contextmanager
def emulator(kmock: Any) -> Iterator[tuple[str, Any]]:
    """Serve an emulated API server of Kubernetes that knows jobs, pods and events; return its URL and its objects."""
    started, ended = threading.Event(), threading.Event()
    serving: dict[str, Any] = {}

    async def serve() -> None:
        api = kmock.KubernetesEmulator()
        for name, kind in {"batch/v1/jobs": "Job", "v1/pods": "Pod", "v1/events": "Event"}.items():
            api.resources[name] = kmock.ResourceInfo(kind=kind, namespaced=True)
        async with api, kmock.Server(api) as port:
            serving.update(url=str(port.url), objects=api.objects)
            started.set()
            while not ended.is_set():
                await asyncio.sleep(0.05)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert started.wait(TIMEOUT_SECONDS)
    try:
        yield serving["url"], serving["objects"]
    finally:
        ended.set()
        thread.join()


def kubeconfig(url: str) -> dict[str, Any]:
    """Return the configuration of a client of an API server without authentication."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "emulator",
        "clusters": [{"name": "emulator", "cluster": {"server": url}}],
        "users": [{"name": "nobody", "user": {}}],
        "contexts": [{"name": "emulator", "context": {"cluster": "emulator", "user": "nobody"}}],
    }


class Kubelet:
    """A node that runs each job's container once, and reports its end to the API server.

    Attributes:
        pods: Name of a job -> its pod.
        started: Name of a job -> time of `time.monotonic` at which its pod was started.
    """

    def __init__(self, url: str, start: Callable[[str, dict[str, Any]], Pod]) -> None:
        """Watch the jobs of an API server; `start` gets the name of a job and its container, and starts the pod."""
        self._url = url.rstrip("/")
        self._start = start
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, name="kubelet")
        self.pods: dict[str, Pod] = {}
        self.started: dict[str, float] = {}
        self.error: BaseException | None = None

    def __enter__(self) -> Kubelet:
        """Start to watch."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop, and kill the pods that are alive."""
        self._ended.set()
        self._thread.join()
        for pod in self.pods.values():
            pod.kill()

    def _work(self) -> None:
        reported: set[str] = set()
        try:
            while not self._ended.wait(POLL_SECONDS):
                for job in self._ask("GET", JOBS)["items"]:
                    name = job["metadata"]["name"]
                    if name not in self.pods:
                        self.pods[name] = self._start(name, job["spec"]["template"]["spec"]["containers"][0])
                        self.started[name] = time.monotonic()
                        self._report(name, {"active": 1})
                    elif name not in reported and (code := self.pods[name].process.poll()) is not None:
                        self._report(name, {"active": 0, "failed" if code else "succeeded": 1})
                        reported.add(name)
        except BaseException as error:
            self.error = error
            raise

    def _report(self, name: str, status: Mapping[str, int]) -> None:
        self._ask("PATCH", f"{JOBS}/{name}/status", {"status": status})

    def _ask(self, method: str, path: str, body: object = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/merge-patch+json"}
        request = urllib.request.Request(self._url + path, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:
            return json.load(response)


def variables_of(container: Mapping[str, Any], secrets: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Return the variables of a container, with those that it takes from secrets.

    Raises:
        KeyError: A secret, or a key of it, is missing.
    """
    variables: dict[str, str] = {}
    for source in container.get("envFrom") or ():
        variables |= secrets[source["secretRef"]["name"]]
    for variable in container.get("env") or ():
        if reference := (variable.get("valueFrom") or {}).get("secretKeyRef"):
            variables[variable["name"]] = secrets[reference["name"]][reference["key"]]
        else:
            variables[variable["name"]] = variable.get("value") or ""
    return variables


def dagster_yaml(values: Mapping[str, Any], port: int, kubeconfig_file: str) -> dict[str, Any]:
    """Return the settings that Dagster's chart makes of the values, for a database and an API server on this machine.

    Args:
        values: Those of values.yaml.
        port: The port of the database.
        kubeconfig_file: The file that names the API server; in a cluster, pods have it from their service account.
    """
    database = values["postgresql"]
    launcher = values["runLauncher"]["config"]["k8sRunLauncher"]
    daemon = values["dagsterDaemon"]
    monitoring = daemon["runMonitoring"]
    queue = daemon["runCoordinator"]["config"]["queuedRunCoordinator"]
    concurrency, retention = values["concurrency"], values["retention"]
    run_config = {_snake(name): config for name, config in launcher["runK8sConfig"].items()}
    storage = {
        "username": database["postgresqlUsername"],
        "password": {"env": "DAGSTER_PG_PASSWORD"},
        "hostname": "127.0.0.1",  # database["postgresqlHost"] is a service of the cluster
        "db_name": database["postgresqlDatabase"],
        "port": port,
    }
    return {
        "storage": {"postgres": {"postgres_db": storage}},
        "run_launcher": {
            "module": "dagster_k8s",
            "class": values["runLauncher"]["type"],
            "config": {
                "load_incluster_config": False,
                "kubeconfig_file": kubeconfig_file,
                "job_namespace": "default",
                "image_pull_policy": launcher["imagePullPolicy"],
                "service_account_name": "dagster",
                "dagster_home": {"env": "DAGSTER_HOME"},
                "instance_config_map": "dagster-instance",
                "postgres_password_secret": "dagster-postgresql-secret",
                "security_context": launcher["securityContext"],
                "run_k8s_config": run_config,
            },
        },
        "run_coordinator": {
            "module": "dagster.core.run_coordinator",
            "class": daemon["runCoordinator"]["type"],
            "config": {
                "dequeue_use_threads": queue["dequeueUseThreads"],
                "dequeue_num_workers": queue["dequeueNumWorkers"],
            },
        },
        "run_monitoring": {
            "enabled": monitoring["enabled"],
            "start_timeout_seconds": monitoring["startTimeoutSeconds"],
            "cancel_timeout_seconds": monitoring["cancelTimeoutSeconds"],
            "poll_interval_seconds": monitoring["pollIntervalSeconds"],
            "max_resume_run_attempts": monitoring["maxResumeRunAttempts"],
            "free_slots_after_run_end_seconds": monitoring["freeSlotsAfterRunEndSeconds"],
        },
        "concurrency": {
            "runs": {"max_concurrent_runs": concurrency["runs"]["maxConcurrentRuns"]},
            "pools": {
                "granularity": concurrency["pools"]["granularity"],
                "default_limit": concurrency["pools"]["defaultLimit"],
            },
        },
        "retention": {
            "schedule": {"purge_after_days": retention["schedule"]["purgeAfterDays"]},
            "sensor": {"purge_after_days": retention["sensor"]["purgeAfterDays"]},
        },
        "compute_logs": {
            "module": "dagster._core.storage.noop_compute_log_manager",
            "class": "NoOpComputeLogManager",  # the chart's default
        },
        "telemetry": {"enabled": values["telemetry"]["enabled"]},
        **values["additionalInstanceConfig"],
    }


def code_server_variables(deployment: Mapping[str, Any]) -> dict[str, str]:
    """Return the variables by which the chart tells a code server what the pods of its runs get."""
    context = {
        "image_pull_policy": deployment["image"]["pullPolicy"],
        "env_secrets": [secret["name"] for secret in deployment["envSecrets"]],
        "env_vars": [f"{variable['name']}={variable['value']}" for variable in deployment["env"]],
        "volumes": deployment["volumes"],
        "volume_mounts": deployment["volumeMounts"],
        "resources": deployment["resources"],
    }
    image = deployment["image"]
    return {
        "DAGSTER_CURRENT_IMAGE": f"{image['repository']}:{image['tag']}",
        "DAGSTER_CONTAINER_CONTEXT": json.dumps({"k8s": context}),
    }


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)
