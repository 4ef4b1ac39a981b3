"""What each fault of an endpoint costs a run: `python -m tests.faults.table --help`.

`INTRO` says how it is measured.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.faults.drive import CASES, CHANNELS, Case, Ran, made_project, run

INTRO = """# What a dead endpoint costs

Made by `uvx nox -s faults`; do not edit. Each run with a fault is paired with a healthy one right before it. Told are
the median of the seconds that the fault adds, of {rounds} pairs; what became of everything once the endpoint was well
and the next run had replayed what was kept; and how often the run warned. Lost is what neither arrived nor was counted
as dropped, because the receiver refuses it or there was no room for it; out of order are runs whose end came before
their start; blank is what was not measured. The budget is {budget:g} seconds.
dbt's events are made up and come all at once, so that nothing hides behind the time that dbt takes. What is below zero
is what a healthy run spends on sending: over 2,000 events at 1,000 nodes.
"""
ALL_SENT = "0, all sent"
HEAD = ("fault", "channel", "nodes", "seconds added", "lost", "dropped", "twice", "out of order", "warnings")


def main() -> int:
    """Write the table; return 1 if a run was harmed, or slowed by more than the budget and half a second."""
    parser = argparse.ArgumentParser(prog="faults")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--nodes", type=int, nargs="*", default=[10, 1000])
    parser.add_argument("--channels", nargs="*", default=CHANNELS)
    parser.add_argument("--faults", nargs="*", default=[case.name for case in CASES])
    parser.add_argument("--file", type=Path)
    told = parser.parse_args()
    cases = [case for case in CASES if case.name in told.faults]
    with tempfile.TemporaryDirectory(prefix="floe-faults-") as folder:
        pairs = [(channel, nodes) for nodes in told.nodes for channel in told.channels]
        rows = [row for channel, nodes in pairs for row in measure(Path(folder), channel, nodes, told.rounds, cases)]
    print(as_table(rows))
    from pipeline.floe.delivery.sender import BUDGET_SECONDS

    if told.file:
        table = as_table(with_others(rows, told.file))
        told.file.write_text(f"{INTRO.format(rounds=told.rounds, budget=BUDGET_SECONDS)}\n{table}\n")
    limit = BUDGET_SECONDS + 0.5
    bad = [
        row for row in rows if float(row[3]) > limit or row[4] != "0" or row[7] != "0" or row[8] not in {"1", ALL_SENT}
    ]
    print(f"{len(rows)} cases, {len(bad)} bad", *bad, sep="\n")
    return int(bool(bad))


def as_table(rows: list[tuple[str, ...]]) -> str:
    """Return rows as a table of Markdown."""
    return "\n".join(f"| {' | '.join(line)} |" for line in (HEAD, ("---",) * len(HEAD), *rows))


def with_others(rows: list[tuple[str, ...]], file: Path) -> list[tuple[str, ...]]:
    """Return rows in the order of the cases, with those of `file` that were not measured now.

    A column that the file does not have is blank in them.
    """
    lines = [line.strip("| ").split(" | ") for line in file.read_text().splitlines() if line.startswith("|")]
    found = {}
    for line in lines[2:]:
        values = dict(zip(lines[0], line, strict=True))
        found[tuple(line[:3])] = tuple(values.get(name, "") for name in HEAD)
    found |= {row[:3]: row for row in rows}
    sizes = sorted({key[2] for key in found}, key=int)
    keys = [(case.name, channel, size) for size in sizes for channel in CHANNELS for case in CASES]
    return [found[key] for key in keys if key in found]


def measure(folder: Path, channel: str, nodes: int, rounds: int, cases: list[Case]) -> list[tuple[str, ...]]:
    """Return a row for each fault of a channel."""
    from tests.engines.certificates import write_certificate

    target = made_project(folder / str(nodes), nodes)
    tls = write_certificate(Path(tempfile.mkdtemp(dir=folder)))

    def ran(case: Case | None, *, recover: bool) -> Ran:
        return run(channel, case, target, nodes, Path(tempfile.mkdtemp(dir=folder)), tls, recover=recover)

    cases = [case for case in cases if channel in case.channels]
    ran(None, recover=False)  # imports, fills caches
    expected = len(ran(None, recover=True).arrived)
    added: dict[str, list[float]] = {case.name: [] for case in cases}
    first: dict[str, Ran] = {}
    for _ in range(rounds):
        for case in cases:
            healthy = ran(None, recover=False)
            got = ran(case, recover=case.name not in first)
            added[case.name].append(got.seconds - healthy.seconds)
            first.setdefault(case.name, got)
            print(".", end="", file=sys.stderr, flush=True)
    rows: list[tuple[str, ...]] = []
    for case in cases:
        arrived: Counter[tuple[str, str]] = first[case.name].arrived
        dropped = first[case.name].dropped
        # An end that was dropped, and that a replay has made up for by ABORT, counts as both.
        lost, twice = max(0, expected - len(arrived) - dropped), sum(count - 1 for count in arrived.values())
        seconds = f"{statistics.median(added[case.name]):.1f}"
        told = first[case.name]
        kept = any("spooled" in tag or "dropped" in tag for tag in told.tags.values())
        warnings = str(len(told.warnings)) if kept or told.warnings else ALL_SENT
        became = [str(number) for number in (lost, dropped, twice, told.disordered)]
        rows.append((case.name, channel, str(nodes), seconds, *became, warnings))
        if len(told.warnings) > 1:
            print(case, told.warnings, file=sys.stderr)
    return rows


if __name__ == "__main__":
    import tests.conftest  # noqa: F401 - renders the project that `pipeline` is

    sys.exit(main())
