"""Tests of real Dagster runs with dead endpoints, killed processes, full disks and planted secrets."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.faults.server import Fault, FaultyServer, faulty
from tools.rendering import TARGETS, facts, render

# Runs until somebody ends it.
SLOW = """
{{ config(materialized='table') }}
-- {{ ref('placeholder') }}
select count(*) as n from range(10000000) as a(x), range(10000000) as b(y) where (a.x * b.y) % 7 = 3
"""


# Stands in the way of the resource in defs/dbt.py once everything has been loaded.
NO_DBT = """
from dagster_dbt import DbtCliResource

cli = DbtCliResource.cli


def without_dbt(self, args, **kwargs):
    object.__setattr__(self, "dbt_executable", "no-such-dbt")
    return cli(self, args, **kwargs)


DbtCliResource.cli = without_dbt
"""


@pytest.fixture
def project(template: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """Return a project (by default of duckdb) with two models, the second of which reads the first."""
    target = getattr(request, "param", "duckdb")
    answers = {"project_name": "pipeline", "start_from": "empty", "compute_target": target}
    made = render(template, tmp_path / "project", **answers)
    (made / "dbt" / "models" / "after.sql").write_text("select * from {{ ref('placeholder') }}")
    (made / "home").mkdir()
    return made


def environment(project: Path, server: FaultyServer | None, **more: str) -> dict[str, str]:
    """Return the variables of a run."""
    endpoints = {"OPENLINEAGE_URL": server.url, "OTEL_EXPORTER_OTLP_ENDPOINT": server.url} if server else {}
    kept = {name: os.environ[name] for name in ("PATH", "HOME")}
    return {
        **kept,
        "PYTHONPATH": "src",
        "DAGSTER_HOME": str(project / "home"),
        "DAGSTER_CLI_TELEMETRY": "0",
        "LOG_FORMAT": "json",
        **endpoints,
        **more,
    }


def launch(project: Path, server: FaultyServer | None, **more: str) -> tuple[int, str]:
    """Run all assets; return the exit code and the output."""
    done = subprocess.run(
        ["dg", "launch", "--assets", "*"],
        cwd=project,
        env=environment(project, server, **more),
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def floe(project: Path, server: FaultyServer, *arguments: str) -> str:
    """Run the command `floe`."""
    code = "import sys; from pipeline.floe.cli.main import main; sys.exit(main())"
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(
        command, cwd=project, env=environment(project, server), capture_output=True, text=True, check=False
    ).stdout


def runs(server: FaultyServer) -> dict[tuple[str, str], list[str]]:
    """Return the received states of each run in order, by job and run id."""
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for event in server.events:
        if event["job"]["name"] != "floe.doctor":
            found[event["job"]["name"], event["run"]["runId"]].append(event["eventType"])
    return dict(found)


def warnings(printed: str) -> list[str]:
    """Return our warnings about unsent items."""
    return [line for line in printed.splitlines() if "uv run floe doctor" in line and "to test the endpoints" in line]


@pytest.mark.parametrize("fault", [Fault.HANG, Fault.REFUSE])
def test_dead_endpoints(project: Path, fault: Fault) -> None:
    """The run succeeds and warns once, and the next run sends everything."""
    with faulty() as server:
        server.go_wrong(fault)
        code, printed = launch(project, server)
        assert 0 == code, printed
        assert 1 == len({re.sub(r"^.*?(lineage: )", r"\1", line) for line in warnings(printed)}), printed
        assert {} == runs(server)

        server.go_wrong()
        code, printed = launch(project, server)
        assert 0 == code, printed
        assert [] == warnings(printed)

    assert {("START", "COMPLETE")} == {tuple(states) for states in runs(server).values()}
    jobs = [job for job, _ in runs(server)]
    assert 2 == jobs.count("model.pipeline.after") == jobs.count("pipeline.assets")
    assert 2 == [span.name for span in server.spans].count("model.pipeline.after")
    assert len(server.spans) == len({span.span_id for span in server.spans})


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGKILL], ids=["TERM", "KILL"])
@pytest.mark.parametrize("who", ["dbt", "step", "run"])
def test_killed(project: Path, who: str, sign: signal.Signals) -> None:
    """Whatever is killed, each started run has one end, at once or after `floe doctor` and a replay."""
    (project / "dbt" / "models" / "slow.sql").write_text(SLOW)
    with faulty() as server, launched(project, server) as process:
        wait_for(server, "model.pipeline.slow")
        dbt = next(pid for pid in descendants(process.pid) if is_dbt(pid))
        match who:
            case "dbt":
                os.kill(dbt, sign)
            case "step":
                os.kill(parent(dbt), sign)
            case "run":
                os.killpg(process.pid, sign)
        with suppress(subprocess.TimeoutExpired):
            process.wait(60)
        for pid in descendants(process.pid):
            os.kill(pid, signal.SIGKILL)
        left_open = {run for run, states in runs(server).items() if states == ["START"]}
        # A process that is asked to end, or whose dbt is gone, tells so itself.
        assert bool(left_open) == (sign is signal.SIGKILL and who != "dbt"), left_open
        floe(project, server, "doctor")  # within its 10 seconds; what it has not done by then, a replay does
        floe(project, server, "lineage", "replay")
        floe(project, server, "lineage", "replay")

    ends = {job: states for (job, _), states in runs(server).items()}
    assert {2} == {len(states) for states in ends.values()}, ends
    assert ["START", "COMPLETE"] == ends["model.pipeline.placeholder"]
    for job in ("model.pipeline.slow", "dbt.pipeline", "pipeline.assets"):
        assert ends[job] in (["START", "FAIL"], ["START", "ABORT"]), (job, ends[job])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a disk")
@pytest.mark.parametrize("way", ["read-only", "full"])
def test_disk(project: Path, way: str) -> None:
    """Without a disk for the journal and the logs, the run succeeds, and sent events arrive."""
    state = project / "state"
    state.mkdir()
    if way == "full":
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8k", "tmpfs", state], check=True)
        (state / "filler").write_bytes(b"\0" * 4_096)
    else:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", state], check=True)
    try:
        with faulty() as server:
            code, printed = launch(project, server, FLOE_STATE_DIR=str(state))
    finally:
        subprocess.run(["umount", state], check=True)

    assert 0 == code, printed
    assert {("START", "COMPLETE")} == {tuple(states) for states in runs(server).values()}
    assert warnings(printed), printed


def test_no_dbt(project: Path) -> None:
    """If dbt is not found, receivers get the start of the run, and its failure with the reason."""
    (project / "src" / "pipeline" / "defs" / "no_dbt.py").write_text(NO_DBT)
    with faulty() as server:
        code, printed = launch(project, server)
    assert 0 != code
    assert {("START", "FAIL")} == {tuple(states) for states in runs(server).values()}, printed
    assert "no-such-dbt" in server.events[1]["run"]["facets"]["errorMessage"]["message"]
    assert "lineage: 2 sent" in printed


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a disk")
def test_target_not_writable(project: Path) -> None:
    """If dbt cannot write to its target folder, receivers get the start of the run and its failure."""
    target = project / "dbt" / "target"
    with faulty() as server:
        code, printed = launch(project, server)  # makes the manifest
        assert 0 == code, printed
        server.events.clear()
        made = target / "manifest.json"
        subprocess.run(["mount", "--bind", target, target], check=True)
        try:
            subprocess.run(["mount", "-o", "remount,ro,bind", target], check=True)
            # As in production, the code location finds the manifest and does not make it.
            code, printed = launch(project, server, FLOE_PREPARED_MANIFEST=f"{made}:{made.stat().st_mtime_ns}")
        finally:
            subprocess.run(["umount", target], check=True)
    assert 0 != code
    assert {("START", "FAIL")} == {tuple(states) for states in runs(server).values()}, printed


def test_no_debug_log(project: Path) -> None:
    """If dbt writes no debug log, the run succeeds and everything arrives."""
    with faulty() as server:
        code, printed = launch(project, server, DBT_LOG_LEVEL_FILE="none")
    assert 0 == code, printed
    assert {("START", "COMPLETE")} == {tuple(states) for states in runs(server).values()}
    assert {"model.pipeline.placeholder", "model.pipeline.after"} <= {span.name for span in server.spans}


@pytest.mark.parametrize(("project", "target"), [(target, target) for target in TARGETS], indirect=["project"])
def test_secrets(project: Path, target: str) -> None:
    """Nothing that a run stores or sends contains the value of a secret variable, even if dbt's error repeats it."""
    named = [name for name, variable in facts(target)["variables"].items() if variable.get("secret")]
    secrets = {name: f"planted-{name.lower()}" for name in [*named, "OPENLINEAGE_API_KEY"]}
    told = " || ".join(f"getenv('{name}')" for name in secrets)
    (project / "dbt" / "models" / "leaks.sql").write_text(f"select error('refused: ' || {told}) as a")
    secrets["OTEL_EXPORTER_OTLP_HEADERS"] = "authorization=planted-header"
    with faulty() as server:
        code, printed = launch(project, server, **secrets)
        sent = repr(server.events) + repr(server.spans) + repr(server.metrics)
        server.go_wrong(Fault.REFUSE)
        _, again = launch(project, server, **secrets)
    assert 0 != code
    assert "refused" in sent

    values = [value.rpartition("=")[2] for value in secrets.values()]
    assert [] == [value for value in values if value in sent]
    assert [] == [line for line in (printed + again).splitlines() if any(value in line for value in values)]
    leaks = []
    for file in project.rglob("*"):
        if file.is_file() and ".venv" not in file.parts:
            text = file.read_bytes()
            leaks += [f"{value} in {file.relative_to(project)}" for value in values if value.encode() in text]
    # What dbt itself writes of its error is dbt's: only DBT_ENV_SECRET_… is hidden there.
    assert [] == [leak for leak in leaks if "/target/" not in leak]


@contextmanager
def launched(project: Path, server: FaultyServer) -> Iterator[subprocess.Popen[bytes]]:
    """Start a run in its own process group, and end the remaining processes afterwards."""
    process = subprocess.Popen(
        ["dg", "launch", "--assets", "*"],
        cwd=project,
        env=environment(project, server),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for(server: FaultyServer, job: str) -> None:
    """Wait until a job has started, and a moment longer for the items sent with its start."""
    deadline = time.monotonic() + 120
    while not any(event["job"]["name"] == job for event in server.events):
        assert time.monotonic() < deadline, "it did not start"
        time.sleep(0.1)
    time.sleep(1)


def descendants(pid: int) -> list[int]:
    """Return the processes of a session."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == pid and fields[0] != "Z":
                found.append(int(folder.name))
    return found


def parent(pid: int) -> int:
    """Return a process's parent."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def is_dbt(pid: int) -> bool:
    """Return whether a process is `dbt build`."""
    words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return b"build" in words and any(word.endswith(b"/dbt") or word == b"dbt" for word in words)
