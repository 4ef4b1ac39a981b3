"""The services of a rendered compose.yaml as processes of an unpacked image, without a container daemon.

Each process sees the image as its root, read-only, with a volume at /var/lib/floe and an empty /tmp, and runs as a user
whom the image does not know. It has process ids of its own, so its first process is process 1, as in a container. The
network is this machine's: the names of services are names of 127.0.0.1.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tools.images import Image

USER = 54_321
CODE_SERVER, WEBSERVER, DAEMON = "code-server", "webserver", "daemon"
WEBSERVER_URL = "http://127.0.0.1:3000"
# In new namespaces: mount what a container has, make the rest read-only, and become a user without capabilities.
ENTER = """
set -e
root=$1 volume=$2 hosts=$3 folder=$4 user=$5
shift 5
mount --bind "$root" "$root"
mount --rbind /dev "$root/dev"
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount --bind "$volume" "$root/var/lib/floe"
mount --bind "$hosts" "$root/etc/hosts"
mount -o remount,bind,ro "$root"
exec setpriv --no-new-privs chroot --userspec="$user:0" --groups= "$root" env --chdir="$folder" -i "$@"
"""
LAUNCH = """
mutation ($location: String!, $assets: [AssetKeyInput!]!) {
  launchPipelineExecution(executionParams: {
    selector: {
      repositoryLocationName: $location, repositoryName: "__repository__", pipelineName: "__ASSET_JOB",
      assetSelection: $assets
    }
    runConfigData: {}
  }) { __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } }
}
"""
ASSETS = "{ assetNodes { assetKey { path } isMaterializable } }"
LOCATIONS = """
{ workspaceOrError { ... on Workspace { locationEntries {
  name locationOrLoadError { __typename ... on PythonError { message } }
} } } }
"""
RUN = "query ($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"
QUERY_SECONDS = 60


class DeploymentError(Exception):
    """A process of the deployment ended, or did not do its work in time."""


class Service:
    """A process of the image."""

    def __init__(self, image: Image, command: Sequence[str], variables: Mapping[str, str], volume: Path) -> None:
        """Start `command` with the image's variables and `variables`; its output goes to a file beside the volume."""
        self.name = Path(command[0]).name
        self.log = volume.parent / f"{'-'.join(re.findall('[a-z]+', ' '.join(command)))[:60]}.log"
        with self.log.open("wb") as stream:
            self.process = subprocess.Popen(
                _entering(image, command, variables, volume),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
            )

    @property
    def lines(self) -> list[str]:
        """Return the lines that it has printed, on both streams."""
        return self.log.read_text(errors="replace").splitlines()

    @property
    def memory(self) -> int:
        """Return the bytes of memory of all its processes now, each with the share of what several processes use."""
        processes, total = [self.process.pid], 0
        while processes:
            folder = Path(f"/proc/{processes.pop()}")
            try:
                processes += [
                    int(child) for task in folder.glob("task/*/children") for child in task.read_text().split()
                ]
                found = re.search(r"^Pss:\s+(\d+) kB", (folder / "smaps_rollup").read_text(), re.MULTILINE)
            except OSError:  # it has ended
                continue
            total += int(found[1]) * 1024 if found else 0
        return total

    def stop(self, seconds: float = 60) -> int:
        """Send SIGTERM to its process 1, wait, and return the exit code.

        Raises:
            TimeoutExpired: It has not ended in time; then it is killed.
        """
        if self.process.poll() is None:
            children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
            os.kill(int(children[0]), signal.SIGTERM)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            raise


class Deployment:
    """The code server, webserver and daemon of a project's compose.yaml."""

    def __init__(self, image: Image, project: Path, folder: Path, variables: Mapping[str, str]) -> None:
        """Read compose.yaml; `variables` are those of .env, and override those of compose.yaml."""
        self.image = image
        self.folder = folder
        self.volume = folder / "state"
        self.volume.mkdir(parents=True)
        self.volume.chmod(0o777)
        self.location = yaml.safe_load((project / "deploy" / "workspace.yaml").read_text())["load_from"][0][
            "grpc_server"
        ]["location_name"]
        self.variables = variables
        self.compose = yaml.safe_load(_interpolated((project / "compose.yaml").read_text(), variables))
        names = " ".join(self.compose["services"])
        (folder / "hosts").write_text(f"127.0.0.1 localhost {names}\n")
        self.services: dict[str, Service] = {}
        self.peaks: dict[str, int] = {}  # of memory while something is waited for, by service

    def start(self, name: str) -> Service:
        """Start a service with the command and the variables of compose.yaml."""
        service = self.compose["services"][name]
        variables = service["environment"] | (self.variables if "env_file" in service else {})
        variables |= {key: self.variables[key] for key in service["environment"] if key in self.variables}
        command = service.get("command", self.image.command)
        self.services[name] = Service(self.image, command, variables, self.volume)
        return self.services[name]

    def start_all(self) -> None:
        """Start all in order, each as soon as those that it depends on are healthy."""
        self.start(CODE_SERVER)
        self.wait(lambda: self.is_healthy(self.image.health_check), 180, CODE_SERVER)
        self.start(WEBSERVER)
        self.start(DAEMON)
        self.wait(lambda: is_loaded(self.location), 180, WEBSERVER)
        self.wait(lambda: self.is_healthy(self.health_check(DAEMON)), 180, DAEMON)

    def health_check(self, name: str) -> list[str]:
        """Return the command of a service's health check."""
        test: list[str] = self.compose["services"][name]["healthcheck"]["test"]
        return test[1:]

    def is_healthy(self, check: Sequence[str]) -> bool:
        """Run a health check in a container's place and say whether it passes."""
        variables = self.compose["services"][DAEMON]["environment"]
        variables |= {key: self.variables[key] for key in variables if key in self.variables}
        command = _entering(self.image, check, variables, self.volume)
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def wait(self, is_done: Callable[[], bool], seconds: float, name: str) -> None:
        """Wait until something is done.

        Raises:
            DeploymentError: A service has ended, or it was not done in time; the message has the end of the log.
        """
        deadline = time.monotonic() + seconds
        while not is_done():
            ended = [name for name, service in self.services.items() if service.process.poll() is not None]
            if ended or time.monotonic() > deadline:
                name = ended[0] if ended else name
                log = "\n".join(self.services[name].lines[-30:])
                msg = f"{name} {'ended' if ended else f'took more than {seconds:g} s'}:\n{log}"
                raise DeploymentError(msg)
            for service, process in self.services.items():
                self.peaks[service] = max(self.peaks.get(service, 0), process.memory)
            time.sleep(1)

    def launch(self) -> str:
        """Put a run of all assets into the queue and return its id."""
        return launch(self.location)

    def finished(self, run_id: str, seconds: float = 300) -> str:
        """Wait for a run's end and return its status."""
        self.wait(lambda: status(run_id) in {"SUCCESS", "FAILURE", "CANCELED"}, seconds, DAEMON)
        return status(run_id)

    def stop(self) -> dict[str, float]:
        """Stop all services as a container engine does, in the reverse order; return the seconds that each took."""
        taken = {}
        for name, service in reversed(self.services.items()):
            start = time.monotonic()
            service.stop()
            taken[name] = time.monotonic() - start
        return taken


def launch(location: str) -> str:
    """Put a run of all assets of a code location into the queue and return its id.

    Raises:
        DeploymentError: The webserver has refused it.
    """
    assets = [node["assetKey"] for node in ask(ASSETS)["assetNodes"] if node["isMaterializable"]]
    launched = ask(LAUNCH, location=location, assets=assets)["launchPipelineExecution"]
    if "run" not in launched:
        raise DeploymentError(str(launched))
    run_id: str = launched["run"]["runId"]
    return run_id


def is_loaded(location: str) -> bool:
    """Return whether the webserver is up and has loaded its only code location.

    Raises:
        DeploymentError: It could not be loaded.
    """
    try:
        entries = ask(LOCATIONS)["workspaceOrError"]["locationEntries"]
    except OSError:
        return False
    if any(entry["locationOrLoadError"] and "message" in entry["locationOrLoadError"] for entry in entries):
        raise DeploymentError(str(entries))
    return [location] == [entry["name"] for entry in entries if entry["locationOrLoadError"]]


def status(run_id: str) -> str:
    """Return the status of a run, as the webserver knows it."""
    found: str = ask(RUN, id=run_id)["runOrError"]["status"]
    return found


def ask(query: str, **variables: object) -> dict[str, Any]:
    """Send a GraphQL request to the webserver and return its data."""
    request = urllib.request.Request(
        f"{WEBSERVER_URL}/graphql",
        json.dumps({"query": query, "variables": variables}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=QUERY_SECONDS) as response:
        answer = json.load(response)
    if "data" not in answer or not answer["data"]:
        raise DeploymentError(str(answer))
    data: dict[str, Any] = answer["data"]
    return data


def _entering(image: Image, command: Sequence[str], variables: Mapping[str, str], volume: Path) -> list[str]:
    """Return the command that runs `command` in the image."""
    assignments = [f"{name}={value}" for name, value in (image.environment | dict(variables)).items()]
    hosts = volume.parent / "hosts"
    namespaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
    enter = ["bash", "-c", ENTER, "enter", str(image.root), str(volume), str(hosts), image.working_dir, str(USER)]
    return [*namespaces, *enter, *assignments, *command]


def _interpolated(text: str, variables: Mapping[str, str]) -> str:
    """Replace `${NAME}`, `${NAME:-default}` and `${NAME:?error}` as Compose does.

    Raises:
        KeyError: A required variable is missing.
    """

    def value(found: re.Match[str]) -> str:
        name, operator, default = found.groups()
        return variables[name] if operator != ":-" or name in variables else default

    return re.sub(r"\$\{(\w+)(?:(:[-?])([^}]*))?\}", value, text)
