"""Tests that the benchmarks detect what they should; slow, for a quiet machine: `nox -s bench_truth`."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import endpoint
from benchmarks.launch import Side
from benchmarks.measure import RefusedError, alternate, compare
from benchmarks.observed import measure, sides
from benchmarks.peers import DBT
from benchmarks.projects import NAME

TABLES = 20
PLANTED_SECONDS = 0.4
EMITTER = f"src/{NAME}/floe/lineage/events.py"
SEAM = "        match life:\n"
PLANTED = {
    "sleep": f"        import time; time.sleep({PLANTED_SECONDS})\n",
    "work": (
        f"        import time; end = time.thread_time() + {PLANTED_SECONDS}\n"
        "        while time.thread_time() < end: pass\n"
    ),
}

Made = tuple[dict[str, Side], endpoint.Endpoint]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    """Return both sides of a small project and the receiver; do not change them."""
    with endpoint.healthy() as live:
        yield sides(tmp_path_factory.mktemp("bench"), TABLES, live.url), live


def changed(side: Side, name: str) -> Side:
    """Return a copy of a side, to be changed."""
    project = side.project.with_name(name)
    return replace(side, project=shutil.copytree(side.project, project), built=None)


def quick(side: Side) -> Side:
    """Return a side that builds the same by dbt alone: what is refused needs no Dagster."""
    return replace(side, command=("dbt", *DBT), built=None)


def test_planted(made: Made) -> None:
    """What is planted in the emitter shows: a sleep as time, work as CPU."""
    observed = made[0]["observed"]
    slow = {name: changed(observed, name) for name in PLANTED}
    for name, side in slow.items():
        emitter = side.project / EMITTER
        text = emitter.read_text()
        assert 1 == text.count(SEAM)
        emitter.write_text(text.replace(SEAM, PLANTED[name] + SEAM))

    told = compare(alternate({"observed": observed, **slow}, 1), "observed")

    assert observed.built is not None
    total = 2 * len(observed.built.nodes) * PLANTED_SECONDS  # at the start and at the end of each node
    assert 0.7 * total < told["more"]["work"]["cpu_s"] < 1.3 * total
    # dbt works on while the emitter sleeps, so a part of it costs nothing.
    assert 0.5 * total < told["more"]["sleep"]["wall_s"]
    assert told["more"]["sleep"]["cpu_s"] < 0.5 * total


def test_fewer_nodes(made: Made) -> None:
    """A side that builds less is refused, and the message names what it has not built."""
    given, live = made
    fewer = quick(changed(given["stock"], "fewer"))
    (fewer.project / "transform" / "models" / "layer_9" / "t9_0001.sql").unlink()
    fewer.parse()

    with pytest.raises(
        RefusedError, match=r"not the same nodes: 1 differ, such as model\.bench\.t9_0001: None / success"
    ):
        measure({"stock": fewer, "observed": quick(given["observed"])}, live, 1)


def test_other_status(made: Made) -> None:
    """A side whose nodes end otherwise is refused, even where its command is expected to fail."""
    given, live = made
    failing = replace(quick(changed(given["stock"], "failing")), exit_code=1)
    table = failing.project / "transform" / "models" / "layer_9" / "t9_0001.sql"
    table.write_text("select no_such_column")

    with pytest.raises(RefusedError, match=r"model\.bench\.t9_0001: error / success"):
        measure({"stock": failing, "observed": quick(given["observed"])}, live, 1)


def test_failed_command(made: Made, tmp_path: Path) -> None:
    """A command that fails is no measurement."""
    broken = replace(made[0]["stock"], project=tmp_path, command=("dbt", "no-such-command"))

    with pytest.raises(RefusedError, match="has ended with 2"):
        broken()


def test_silent(made: Made) -> None:
    """An observed side that sends nothing is refused."""
    given, live = made

    with pytest.raises(RefusedError, match="0 events and 0 spans have arrived"):
        measure({name: quick(side) for name, side in given.items()}, live, 1)
