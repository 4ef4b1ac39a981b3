"""Tests with randomly mutated dbt events: no exception reaches the run, and no lineage run stays open.

`FLOE_FUZZ` is how many events are mutated; `nox -s faults` takes 10,000.
"""

from __future__ import annotations

import copy
import json
import os
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.drive import context, environment, invocation, quiet, settings
from tests.lineage.replay import RECORDED, RECORDINGS, lines

COUNT = int(os.environ.get("FLOE_FUZZ", "500"))
SHARE = 0.2  # of a command's events that are mutated
VALUES: tuple[Any, ...] = (
    None,
    True,
    -1,
    2**70,
    1.5,
    "",
    "None",
    "no time",
    "2026-13-99T99:99:99Z",
    "1970-01-01T00:00:00",
    "\ud800",
    "x" * 100_000,
    [],
    [None],
    {},
    {"unique_id": 7},
    {"a": {"b": [{}]}},
)


def mutate(event: Any, chance: random.Random) -> Any:
    """Return a copy of an event with one value changed or removed, or something that is not an event."""
    if chance.random() < 0.02:
        return chance.choice(VALUES)
    mutated = copy.deepcopy(event)
    place: Any = mutated
    while True:
        key = chance.choice(list(place) if isinstance(place, dict) else range(len(place)))
        if isinstance(place[key], dict | list) and place[key] and chance.random() < 0.8:
            place = place[key]
            continue
        if chance.random() < 0.3:
            del place[key]
        else:
            place[key] = copy.deepcopy(chance.choice(VALUES))
        return mutated


def stream(events: list[Any], chance: random.Random, hit: set[str]) -> Iterator[Any]:
    """Yield a command's events, some mutated, dropped, repeated or delayed; `hit` receives their nodes."""
    late: list[Any] = []
    for event in events:
        if chance.random() > SHARE:
            yield event
        else:
            hit.add((event["data"].get("node_info") or {}).get("unique_id", ""))
            match chance.randrange(8):
                case 0:
                    yield event
                    yield event
                case 1:
                    late.append(event)
                case 2:
                    pass
                case _:
                    yield mutate(event, chance)
    yield from late


def told(target: str, folder: Path, events: list[Any], debug_log: str) -> Counter[tuple[str, str, str]]:
    """Return the run events for these events: job, run id and state."""
    from pipeline.floe.delivery.journal import journals, read_lines
    from pipeline.floe.observer import Observer

    made = folder / "target"
    made.mkdir(parents=True)
    (made / "manifest.json").symlink_to(RECORDED / target / "manifest.json")
    (made / "compiled").symlink_to(RECORDED / target / "compiled")
    (made / "dbt.log").write_text(debug_log, encoding="utf-8", errors="replace")
    with environment(folder.parent / "state"), quiet():
        # Nobody listens, so that all is still in the journal at the end.
        observer = Observer(context({}), settings("lineage", "http://127.0.0.1:1"))
        observer.attach(invocation(made))
        for event in events:
            observer.handle(event)
        observer.finish(None)
    (file,) = journals(folder.parent / "state" / "lineage")
    kept = [line.content for line in read_lines(file)]
    file.unlink()
    assert None not in kept
    return Counter((each["job"]["name"], each["run"]["runId"], each["eventType"]) for each in kept if each)


@pytest.mark.parametrize("target", RECORDINGS)
def test_mutated(target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No exception is raised, each run has one start and one end, and unmutated nodes are reported correctly."""
    monkeypatch.delenv("FLOE_RAISE")  # as in production
    chance = random.Random(f"{target}{COUNT}")
    events = lines(RECORDED / target / "events.jsonl")
    log = (RECORDED / target / "debug_log.jsonl").read_text()
    truth = {(job, state) for job, _, state in told(target, tmp_path / "truth", events, log)}
    mutated = number = 0
    while mutated < COUNT / len(RECORDINGS):
        hit: set[str] = set()
        shaken = [events[0], *stream(events[1:], chance, hit)]  # the first names the command
        mutated += round(SHARE * len(events))
        shaken_log = ""
        for line in log.splitlines():
            event = json.loads(line)
            if chance.random() < SHARE:
                hit.add(event["data"]["node_info"]["unique_id"])
                shaken_log += json.dumps(mutate(event, chance))[: chance.randrange(20, 2_000)] + "\n"
            else:
                shaken_log += line + "\n"
        found = told(target, tmp_path / str(number), shaken, shaken_log)
        number += 1

        runs: dict[tuple[str, str], list[str]] = {}
        for (job, run, state), count in found.items():
            runs.setdefault((job, run), []).extend([state] * count)
        wrong = {run: states for run, states in runs.items() if len(states) > 2 or states == ["START"]}
        assert {} == wrong
        assert {job for (job, _), states in runs.items() if len(states) < 2} <= hit
        left_alone = {(job, state) for job, state in truth if job.count(".") > 1 and job not in hit}
        assert set() == left_alone - {(job, state) for job, _, state in found}
