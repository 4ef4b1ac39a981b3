"""Tests of runs whose pods are killed: nothing is lost, and the sensor of Dagster's daemon gives each run its end."""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.deploy.slow.events import received, written
from tests.faults.server import Fault, faulty
from tools import pods, runs

pytestmark = pytest.mark.skipif(not pods.are_possible(), reason="needs root and Linux namespaces")

PODS = 10
AT_ONCE = 2
SILENT_SECONDS = 100  # until the daemon takes a run for lost
TERMINAL = {"COMPLETE", "FAIL", "ABORT"}
PREPARE = "import sys; from pipeline.floe.cli.main import main; sys.argv[1:] = ['prepare']; sys.exit(main())"
# What run monitoring does when a pod is gone.
MARK_FAILED = """
import dagster as dg

if __name__ == "__main__":
    with dg.DagsterInstance.get() as instance:
        for run in instance.get_runs():
            if not run.is_finished:
                instance.report_run_failed(run, "The pod was lost.")
"""
# One evaluation, as the code server does it for the daemon; the cursor is kept in a file.
TICK = """
import sys
from pathlib import Path

import dagster as dg
from pipeline.floe.run import unsent_sensor

if __name__ == "__main__":
    kept = Path(sys.argv[1])
    with dg.DagsterInstance.get() as instance:
        context = dg.build_sensor_context(instance=instance, cursor=kept.read_text() if kept.exists() else None)
        result = unsent_sensor.evaluate_tick(context)
        kept.write_text(result.cursor or "")
        print("TICK", result.skip_message)
        print("TAGS", [run.tags.get(".dagster/floe_end") for run in instance.get_runs()])
"""


@pytest.fixture
def disk() -> Iterator[Path]:
    """Return a folder that every user may read, unlike pytest's own."""
    with tempfile.TemporaryDirectory(prefix="floe-pods-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def tick(image: Path, volume: Path, variables: dict[str, str]) -> str:
    """Evaluate the sensor in a pod of its own; return its summary."""
    pod = pods.Pod(image, [sys.executable, "-c", TICK, str(volume / "cursor")], variables, volume / "tick.log")
    assert 0 == pod.wait(90), pod.output
    return next(line for line in pod.output.splitlines() if line.startswith("TICK "))


def in_journals(volume: Path) -> Counter[tuple[str, str]]:
    """Return the events on the volume: run id and state."""
    return written((volume / "state" / "lineage").glob("*.ndjson"))


def test_ten_killed(project: Path, disk: Path, record_property: Callable[[str, str], None]) -> None:
    """Ten runs on hosts of their own are killed while the receiver is dead; later, the daemon's sensor sends all."""
    image = runs.copy(project, disk / "project")
    volume = pods.writable(disk / "volume")
    (pods.writable(volume / "dagster") / "dagster.yaml").write_text(runs.INSTANCE)
    moments = random.Random(20_261_128)
    with faulty() as server:
        server.go_wrong(Fault.REFUSE)
        variables = pods.variables(volume) | {
            "OPENLINEAGE_URL": server.url,
            "OTEL_EXPORTER_OTLP_ENDPOINT": server.url,
            "DBT_TARGET": "prod",
        }
        prepared = pods.Pod(image, [sys.executable, "-c", PREPARE], variables, volume / "prepare.log")
        assert 0 == prepared.wait(90), prepared.output
        created = pods.create_runs(image, runs.ALL, PODS, variables, runs.IN_PROCESS)
        pods.open_to_all(volume)
        waiting = list(created.items())
        alive: list[tuple[float, pods.Pod]] = []
        while waiting or alive:
            while waiting and len(alive) < AT_ONCE:
                run_id, command = waiting.pop()
                own = variables | {"DUCKDB_PATH": str(volume / f"{run_id}.duckdb")}
                pod = pods.Pod(image, command, own, volume / f"{run_id}.log")
                alive.append((time.monotonic() + moments.uniform(3, 30), pod))
            for at, pod in list(alive):
                if time.monotonic() > at or pod.process.poll() is not None:
                    pod.kill()
                    alive.remove((at, pod))
            time.sleep(0.1)
        killed = pods.Pod(image, [sys.executable, "-c", MARK_FAILED], variables, volume / "failed.log")
        assert 0 == killed.wait(90), killed.output
        before = in_journals(volume)
        assert [] == server.events

        early = tick(image, volume, variables)  # the hosts may still be alive
        assert [] == server.events
        time.sleep(SILENT_SECONDS)
        server.go_wrong()
        summaries = [tick(image, volume, variables) for _ in range(3)]

    states = received(server)
    arrived = Counter((run_id, state) for run_id, found in states.items() for state in found)
    assert {} == dict(before - arrived), "events were lost"
    assert {1} == set(arrived.values()), "events were sent twice"
    assert [] == [found for found in states.values() if len(found) != 2 or found[0] != "START"], summaries
    assert [] == [found for found in states.values() if found[1] not in TERMINAL]
    roots = Counter(span.name for span in server.spans if not span.parent_span_id)
    begun = [run_id for run_id in created if run_id in states]
    record_property(
        "summary",
        f"{PODS} pods killed, {len(begun)} of them in a step: {before.total()} events waited, {arrived.total()} "
        f"arrived, 0 lost, 0 twice; {len(states)} lineage runs with one end each; {roots.total()} root spans; "
        f"{early}; {summaries}",
    )
    assert 5 <= len(begun)
    assert {f"run {runs.ALL}": len(begun)} == dict(roots)
    assert len(server.spans) == len({span.span_id for span in server.spans})
    assert summaries[-1] == "TICK nothing was waiting"
