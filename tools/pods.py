"""Pods without a cluster: processes with a host name, process ids and file system view of their own.

A pod here has what a container of a cluster has: a read-only project folder, a host name of its own, process ids that
start at 1, an arbitrary user id without an entry in /etc/passwd, and no home. It needs root and Linux namespaces.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from uuid import uuid4

USER = 12_345
# The interpreter of the tests may lie in a folder that only root may read. This user may read everything, but write
# only what is writable for all.
READ_ALL = "dac_read_search"
VOLUME = "/var/lib/floe"
# In the new namespaces: name the host, make the project read-only, mount the volume if there is one, become the user,
# and replace the shell.
ENTER = """
hostname "$1" && mount --bind "$2" "$2" && mount -o remount,bind,ro "$2" && cd "$2" || exit 99
if [ -n "$3" ]; then
  mount -t tmpfs tmpfs /var/lib && mkdir /var/lib/floe && mount --bind "$3" /var/lib/floe || exit 99
fi
shift 3
exec setpriv --reuid=%d --regid=0 --clear-groups --inh-caps=+%s --ambient-caps=+%s --bounding-set=-all,+%s "$@"
""" % (USER, READ_ALL, READ_ALL, READ_ALL)  # noqa: UP031 - the braces and quotes belong to the shell
# Creates the run of a job, and prints the command that a launcher gives to the run's own process.
CREATE = """
import json
import sys

import dagster as dg
from dagster._core.definitions.reconstruct import ReconstructableRepository
from dagster._core.origin import JobPythonOrigin
from dagster._grpc.types import ExecuteRunArgs
from pipeline.definitions import defs

name, count, config, tags = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3]), json.loads(sys.argv[4])
job = defs().resolve_job_def(name)
origin = JobPythonOrigin(name, ReconstructableRepository.for_module("pipeline.definitions", "defs").get_python_origin())
with dg.DagsterInstance.get() as instance:
    for _ in range(count):
        run = instance.create_run_for_job(
            job, run_config=config, tags=tags, job_code_origin=origin, status=dg.DagsterRunStatus.STARTING
        )
        args = ExecuteRunArgs(job_origin=origin, run_id=run.run_id, instance_ref=instance.get_ref())
        print("RUN", json.dumps([run.run_id, list(args.get_command_args())]))
"""


@cache
def are_possible() -> bool:
    """Return whether this machine allows pods."""
    if os.geteuid() != 0:
        return False
    command = ["unshare", "--uts", "--pid", "--mount", "--fork", "--mount-proc", "setpriv", "--reuid=1", "true"]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


class Pod:
    """A process in a pod, which `kill` ends as the loss of a node does."""

    def __init__(
        self,
        project: Path,
        command: Sequence[str],
        variables: Mapping[str, str],
        log: Path,
        volume: Path | None = None,
    ) -> None:
        """Start `command` in the read-only folder `project`, with nothing but `variables` and a PATH.

        A `volume` is mounted at `VOLUME`, where an image has it.
        """
        self.name = f"pod-{uuid4().hex[:8]}"
        self.log = log
        path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
        environment = {"PATH": path, "PYTHONPATH": "src", "PYTHONDONTWRITEBYTECODE": "1", **variables}
        assignments = [f"{name}={value}" for name, value in environment.items()]
        mounted = [self.name, str(project), str(volume or "")]
        enter = ["bash", "-c", ENTER, "enter", *mounted, "env", "-i", *assignments, *command]
        namespaces = ["unshare", "--uts", "--pid", "--mount", "--fork", "--kill-child", "--mount-proc"]
        with log.open("wb") as stream:
            self.process = subprocess.Popen([*namespaces, *enter], stdout=stream, stderr=stream, start_new_session=True)

    @property
    def output(self) -> str:
        """Return what it has printed, both streams."""
        return self.log.read_text(errors="replace")

    def wait(self, seconds: float) -> int:
        """Wait for its end; return its exit code."""
        return self.process.wait(seconds)

    def terminate(self) -> None:
        """Send SIGTERM to its first process, as a cluster does before it kills a pod."""
        os.kill(self._first(), signal.SIGTERM)

    def kill(self) -> None:
        """Kill all its processes at once."""
        if self.process.poll() is None:
            with suppress(ProcessLookupError, IndexError):
                os.kill(self._first(), signal.SIGKILL)
            self.process.wait(30)

    def _first(self) -> int:
        """Return the pod's process 1, whose death is that of all its processes."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return int(children[0])


def writable(folder: Path) -> Path:
    """Create a folder in which every user may write, such as a volume of a pod, and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o777)
    return folder


def open_to_all(folder: Path) -> None:
    """Let every user write what root has created in a folder."""
    for path in folder.rglob("*"):
        path.chmod(0o777 if path.is_dir() else 0o666)


def variables(volume: Path) -> dict[str, str]:
    """Return the variables that send everything a run writes to `volume`."""
    return {
        "DBT_TARGET_PATH": str(volume / "dbt"),
        "DBT_LOG_PATH": str(volume / "dbt" / "logs"),
        "FLOE_STATE_DIR": str(volume / "state"),
        "DAGSTER_HOME": str(volume / "dagster"),
        "DUCKDB_PATH": str(volume / "warehouse.duckdb"),
        "DBT_TARGET": "prod",
        "DAGSTER_CLI_TELEMETRY": "0",
        "LOG_FORMAT": "json",
        "FLOE_RAISE": "1",
    }


def create_runs(
    project: Path, job: str, count: int, environment: Mapping[str, str], config: Mapping[str, object]
) -> dict[str, list[str]]:
    """Create runs of a job as Dagster's queue does; return by run id the command with which a launcher starts each."""
    done = subprocess.run(
        [sys.executable, "-c", CREATE, job, str(count), json.dumps(config), "{}"],
        cwd=project,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": "src", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    done.check_returncode()
    lines = [line.removeprefix("RUN ") for line in done.stdout.splitlines() if line.startswith("RUN ")]
    return dict(json.loads(line) for line in lines)
