"""The cost of a command with its whole tree of processes, and the comparison of sides that run in turn. Linux only."""

from __future__ import annotations

import os
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

SAMPLE_SECONDS = 0.1
MEGABYTE = 2**20


class RefusedError(Exception):
    """What was run cannot be compared; the message says why."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a command cost."""

    wall_s: float
    cpu_s: float
    """User and system time of the command and of every process below it."""
    memory_mb: float
    """The highest resident size of any one process, dbt's own left out."""
    tree_mb: float
    """The highest sum of the resident sizes of all processes at one time, sampled; shared pages count in each."""


def run(command: Sequence[str | Path], cwd: Path, environment: Mapping[str, str], log: Path) -> tuple[Cost, int]:
    """Run a command; return what it cost and its exit code. What it prints goes to `log`."""
    with log.open("wb") as output:
        begin = time.perf_counter()
        process = subprocess.Popen(
            [str(part) for part in command], cwd=cwd, env=dict(environment), stdout=output, stderr=subprocess.STDOUT
        )
        memory = _Memory(process.pid)
        _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
        memory.stop()
    cpu = used.ru_utime + used.ru_stime
    return Cost(wall, cpu, memory.largest / MEGABYTE, memory.tree / MEGABYTE), process.returncode


class _Memory:
    """Looks at a tree of processes now and then, in a thread."""

    def __init__(self, pid: int) -> None:
        self.largest = 0
        self.tree = 0
        self._pid = pid
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stopped.wait(SAMPLE_SECONDS):
            found = list(_sizes(self._pid))
            # The kernel keeps each process's own peak: only what lies between the last look and its end is missed.
            self.largest = max([self.largest, *(peak for is_dbt, _, peak in found if not is_dbt)])
            self.tree = max(self.tree, sum(now for _, now, _ in found))


def _sizes(pid: int) -> Iterator[tuple[bool, int, int]]:
    """Yield of a process and all below it: whether it is dbt, its resident size and its peak in bytes."""
    folder = Path("/proc") / str(pid)
    try:
        status = (folder / "status").read_text()
        told = dict(line.split(":", 1) for line in status.splitlines() if line.startswith("Vm"))
        arguments = (folder / "cmdline").read_text().split("\0")[:2]
        children = [child for task in (folder / "task").iterdir() for child in (task / "children").read_text().split()]
    except OSError:  # it has ended meanwhile
        return
    if "VmRSS" in told:  # a process that has ended and waits for its parent has none
        is_dbt = any(Path(each).name in {"dbt", "dbt-ol"} for each in arguments)
        now, peak = (1024 * int(told[key].split()[0]) for key in ("VmRSS", "VmHWM"))
        yield is_dbt, now, peak
    for child in children:
        yield from _sizes(int(child))


Sides = Mapping[str, Callable[[], Cost]]


def alternate(sides: Sides, repeats: int) -> dict[str, list[Cost]]:
    """Run all sides in turn, so many times, each time in the other order."""
    found: dict[str, list[Cost]] = {name: [] for name in sides}
    for i in range(repeats):
        for name in list(sides) if i % 2 == 0 else reversed(list(sides)):
            found[name].append(sides[name]())
    return found


def compare(found: Mapping[str, Sequence[Cost]], base: str) -> dict[str, Any]:
    """Return the medians of each side, and of each side but `base` the ratio and the difference to it.

    A ratio is the median of the ratios of the runs that stood beside each other, with the lowest and the highest.
    """
    medians = {name: _of_all(statistics.median, costs) for name, costs in found.items()}
    told: dict[str, Any] = {"repeats": len(found[base]), "median": medians}
    for name in found:
        if name != base:
            pairs = [(asdict(mine), asdict(other)) for mine, other in zip(found[name], found[base], strict=True)]
            ratios = {key: sorted(a[key] / b[key] for a, b in pairs) for key in ("wall_s", "cpu_s")}
            told.setdefault("ratio", {})[name] = {
                key: {"median": round(statistics.median(each), 3), "from": round(each[0], 3), "to": round(each[-1], 3)}
                for key, each in ratios.items()
            }
            more = {key: round(statistics.median(a[key] - b[key] for a, b in pairs), 2) for key in pairs[0][0]}
            told.setdefault("more", {})[name] = more
    return told


def _of_all(what: Callable[[list[float]], float], costs: Sequence[Cost]) -> dict[str, float]:
    rows = [asdict(cost) for cost in costs]
    return {key: round(what([row[key] for row in rows]), 2) for key in rows[0]}
