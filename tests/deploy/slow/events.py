"""What a receiver and the journals have of the runs that the tests kill."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path

from tests.faults.server import FaultyServer


def received(server: FaultyServer) -> dict[str, list[str]]:
    """Return the states of each run in order, by run id."""
    states: dict[str, list[str]] = defaultdict(list)
    for event in server.events:
        states[event["run"]["runId"]].append(event["eventType"])
    return dict(states)


def written(journals: Iterable[Path]) -> Counter[tuple[str, str]]:
    """Return the events in journals: run id and state."""
    events: Counter[tuple[str, str]] = Counter()
    for file in journals:
        for line in file.read_text().splitlines():
            try:
                event = json.loads(line)
            except ValueError:  # torn: the process was killed while it wrote
                continue
            events[event["run"]["runId"], event["eventType"]] += 1
    return events
