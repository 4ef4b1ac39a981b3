"""Run events -> the receiver, by way of the journal, so that each arrives however the run or the receiver ends.

An event becomes JSON once; that text is kept and sent. What dead processes have left is sent too, and each run that
they have left open is closed: ABORT, at their last sign of life.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from openlineage.client import OpenLineageClient
from openlineage.client.event_v2 import RunEvent, RunState
from openlineage.client.facet_v2 import error_message_run
from openlineage.client.serde import Serde
from openlineage.client.transport import Transport

from ..delivery import Counts, Delivery, RefusedError, one_line
from ..journal import Journal, Line, left_behind
from ..redact import redact_json, redactor
from .as_json import as_json
from .transports import Send, sender

TERMINAL = {RunState.COMPLETE.value, RunState.FAIL.value, RunState.ABORT.value}
UNTOLD = "what ended it could not be told: the log of the run has the fault"
KILLED = "the process that ran it ended without a word: it was killed, ran out of memory, or lost its machine"


@dataclass(frozen=True, slots=True)
class Entry:
    """An event as JSON, blank if its line is torn, and where it is kept: no `offset` if the disk did not take it."""

    text: str
    journal: Journal | None
    offset: int | None


class Outbox:
    """Takes the run events of one step."""

    def __init__(self, client: OpenLineageClient, folder: Path, run_id: str) -> None:
        """Take the client that is configured to send, the folder of journals, and Dagster's run id."""
        self._client = client
        self._run_id = run_id
        self._open: dict[str, RunEvent] = {}
        self._error = ""
        self._redact = redactor()
        self._journal: Journal | None = None
        try:
            self._journal = Journal.create(folder, run_id)
        except OSError as error:
            self._error = one_line(error)
        send = sender(client.transport)
        # The client adds its own facets and leaves out jobs that the owner filters; what it would send comes back.
        client.transport = _Kept(self._keep)
        self._delivery = _delivery(send, unsent(folder, run_id, self._carry))

    @property
    def counts(self) -> Counts:
        """Return what has become of events so far."""
        return self._delivery.counts

    def put(self, event: RunEvent) -> None:
        """Keep an event, and send it soon."""
        self._client.emit(event)

    def close(self, deadline: float) -> Counts:
        """Send what is left until `deadline` of `time.monotonic`; the rest is the next run's to send."""
        self._open.pop(self._run_id, None)  # another attempt, or step, ends it
        for start in self._open.values():
            self._hand_on(json.dumps(_aborted(Serde.to_dict(start), datetime.now(UTC), UNTOLD)))
        counts = self._delivery.close(deadline)
        if self._journal:
            self._error = self._journal.error
            self._journal.close(keep_as_last=True)
        counts.disk_error = self._error
        return counts

    def _keep(self, event: RunEvent) -> None:
        try:
            text = as_json(event)
        except TypeError:  # half a surrogate pair in a message; the client's own way knows what to do
            text = Serde.to_json(event)
        self._hand_on(text)
        if event.eventType is RunState.START:
            self._open[event.run.runId] = event
        else:
            self._open.pop(event.run.runId, None)

    def _hand_on(self, text: str) -> None:
        text = redact_json(text, self._redact)
        offset = self._journal.append(text) if self._journal else None
        self._delivery.put(Entry(text, self._journal, offset))

    def _carry(self, text: str) -> None:
        """Keep a start that an earlier attempt of this run has sent: whoever comes last ends the run."""
        if self._journal:
            self._journal.acknowledge(self._journal.append(text))


class _Kept(Transport):
    """Hands on what the client would send."""

    kind = "journal"

    def __init__(self, take: Callable[[RunEvent], None]) -> None:
        self._take = take

    def emit(self, event: Any) -> None:
        self._take(event)


def replay(transport: Transport, folder: Path, deadline: float) -> Counts:
    """Send what dead processes have left until `deadline` of `time.monotonic`, and end the runs that they left open."""
    return _delivery(sender(transport), unsent(folder)).close(deadline)


def unsent(folder: Path, own_run: str | None = None, carry: Callable[[str], None] = lambda _: None) -> Iterator[Entry]:
    """Yield what dead processes have not sent, oldest first, and an end for each run that they have left open.

    Of the Dagster run `own_run`, which goes on in another attempt, the start is given to `carry` instead.
    """
    for journal in left_behind(folder, keep_last=True):
        yield from _unsent(journal, own_run, carry)


def _delivery(send: Send, backlog: Iterator[Entry]) -> Delivery[Entry]:
    def acknowledge(entries: Sequence[Entry]) -> None:
        for entry in entries:
            if entry.journal:
                entry.journal.acknowledge(entry.offset)

    def send_text(entries: Sequence[Entry]) -> None:
        for entry in entries:
            if not entry.text:
                raise RefusedError("a line of a journal was torn")
            send(entry.text)

    return Delivery(
        "lineage",
        send_text,
        size=lambda entry: len(entry.text),
        sent=acknowledge,
        keep=lambda entries: sum(entry.offset is not None for entry in entries),
        backlog=backlog,
    )


def _unsent(journal: Journal, own_run: str | None, carry: Callable[[str], None]) -> Iterator[Entry]:
    last_sign = datetime.fromtimestamp(journal.file.stat().st_mtime, UTC)
    starts: dict[str, int] = {}
    ended: set[str] = set()
    for line in journal.read():
        run_id, state = _run_of(line)
        if state in TERMINAL:
            ended.add(run_id)
            starts.pop(run_id, None)
        elif state == RunState.START.value and run_id not in ended:
            starts[run_id] = line.offset
    left = sorted(journal.waiting)
    ends = []
    for run_id, offset in starts.items():
        start = journal.text(offset)
        if run_id == own_run:
            carry(start)
        else:
            end = json.dumps(_aborted(json.loads(start), last_sign, KILLED))
            ends.append(Entry(end, journal, journal.append(end)))
    for offset in left:
        yield Entry(journal.text(offset), journal, offset)
    yield from ends


def _run_of(line: Line) -> tuple[str, str]:
    told = line.told or {}
    run = told.get("run")
    return str(run.get("runId")) if isinstance(run, dict) else "", str(told.get("eventType"))


def _aborted(start: Mapping[str, Any], at: datetime, message: str) -> dict[str, Any]:
    """Return the end of the run that `start` began, and of which nothing else is known."""
    facet = Serde.to_dict(error_message_run.ErrorMessageRunFacet(message=message, programmingLanguage="python"))
    facet["_producer"] = start.get("producer", facet["_producer"])
    run = start["run"]
    return {
        **start,
        "eventType": RunState.ABORT.value,
        "eventTime": max(at.isoformat(), str(start.get("eventTime"))),
        "run": {**run, "facets": {**(run.get("facets") or {}), "errorMessage": facet}},
    }
