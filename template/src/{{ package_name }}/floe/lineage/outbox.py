"""The outbox: writes each run event to the journal, then sends it.

An event becomes JSON once; that text is kept and sent. Events of one run id leave in the order in which they happened,
whichever process sends them. Events that dead processes have left are sent too, and each run that they have left open
is closed: ABORT, at their last sign of life.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from openlineage.client import OpenLineageClient
from openlineage.client.event_v2 import RunEvent, RunState
from openlineage.client.serde import Serde
from openlineage.client.transport import Transport

from ..delivery.channel import Channel, RefusedError
from ..delivery.counts import Counts, one_line
from ..delivery.journal import Journal, Line, journals, read_lines
from ..delivery.sender import Delivery
from ..redact import redact_json, redactor
from .backlog import Entry, end_of, run_of, unsent
from .event_json import as_json
from .transports import Send, sender

SPARE_SECONDS = 0.2  # of a replay, to say why it did nothing
UNTOLD = "The run ended without reporting a result; see its Dagster log."


class Outbox:
    """Takes the run events of one step."""

    def __init__(self, client: OpenLineageClient, folder: Path, run_id: str) -> None:
        """Take the client that is configured to send, the folder of journals, and Dagster's run id."""
        self._client = client
        self._folder = folder
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
        client.transport = _JournalTransport(self._keep)
        earlier = self._take_over()  # before the backlog, which takes the journals of others as they are
        self._delivery = Delivery(LineageChannel(send, unsent(folder, run_id)), earlier or ())

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
        for run_id, start in self._open.items():
            self._hand_on(run_id, end_of(Serde.to_dict(start), datetime.now(UTC), UNTOLD))
        counts = self._delivery.close(deadline)
        if self._journal:
            self._error = self._journal.error
            self._journal.close(keep_as_last=True)
        counts.disk_error = self._error
        return counts

    def _keep(self, event: RunEvent) -> None:
        try:
            text = as_json(event)
        except Exception:  # such as half a surrogate pair in a message; the client's own way knows what to do
            text = Serde.to_json(event)
        self._hand_on(event.run.runId, text)
        if event.eventType is RunState.START:
            self._open[event.run.runId] = event
        else:
            self._open.pop(event.run.runId, None)

    def _hand_on(self, run_id: str, text: str) -> None:
        text = redact_json(text, self._redact)
        earlier = self._take_over() if run_id == self._run_id else []
        for entry in earlier or ():
            self._delivery.put(entry)
        offset = self._journal.append(text) if self._journal else None
        entry = Entry(run_id, self._journal, offset, text)
        if earlier is None and offset is not None:
            self._delivery.leave(entry, "another process sends what comes before it in its run")
        else:
            self._delivery.put(entry)

    def _take_over(self) -> list[Entry] | None:
        """Move the run's own events from the journals of its earlier attempts into this one.

        A start that was sent is moved too: whoever comes last ends the run.

        Returns:
            Those that wait; nothing if another process is about to send some.
        """
        moved: list[Entry] = []
        for file in journals(self._folder):
            if self._journal is None or file == self._journal.file or not file.name.startswith(self._run_id):
                continue
            earlier = Journal.claim(file)
            if earlier is None:
                if any(line.is_waiting for line in self._own(_lines(file))):
                    return None
                continue
            with closing(earlier):
                for line in self._own(list(earlier.read())):
                    text = earlier.text(line.offset)
                    if (offset := self._journal.append(text)) is None:
                        continue
                    earlier.erase(line.offset)
                    if line.is_waiting:
                        moved.append(Entry(self._run_id, self._journal, offset, text))
                    else:
                        self._journal.acknowledge(offset)
        return moved

    def _own(self, lines: Iterable[Line]) -> Iterator[Line]:
        return (line for line in lines if run_of(line)[0] == self._run_id)


class _JournalTransport(Transport):
    """Hands on what the client would send."""

    kind = "journal"

    def __init__(self, take: Callable[[RunEvent], None]) -> None:
        self._take = take

    def emit(self, event: Any) -> None:
        self._take(event)


def replay(transport: Transport, folder: Path, deadline: float) -> Counts:
    """Send what dead processes have left until `deadline` of `time.monotonic`, and end the runs that they left open."""
    channel = LineageChannel(sender(transport), unsent(folder, deadline=deadline - SPARE_SECONDS))
    return Delivery(channel).close(deadline)


class LineageChannel(Channel[Entry]):
    """Sends run events, in order within each run; all of them are in a journal before they are sent."""

    name = "lineage"

    def __init__(self, send: Send, backlog: Iterator[Entry]) -> None:
        self._send = send
        self._backlog = backlog

    def send(self, items: Sequence[Entry]) -> None:
        """Send events.

        Raises:
            RefusedError: The receiver will never take one, or its line in the journal is torn.
        """
        for entry in items:
            if not (text := entry.text):
                raise RefusedError("a line of a journal was torn")
            self._send(text)

    def size(self, item: Entry) -> int:
        """Return the bytes of an event that is in memory; others are read when they are sent."""
        return len(item.in_memory or "")

    def sequence(self, item: Entry) -> str | None:
        """Return the id of the event's run."""
        return item.run_id or None

    def acknowledge(self, items: Sequence[Entry]) -> None:
        """Cross events off in their journals."""
        for entry in items:
            entry.acknowledge()

    def spool(self, items: Sequence[Entry]) -> int:
        """Return how many events are in a journal already."""
        return sum(entry.offset is not None for entry in items)

    def backlog(self) -> Iterator[Entry]:
        """Yield what dead processes have left."""
        return self._backlog


def _lines(file: Path) -> list[Line]:
    try:
        return list(read_lines(file))
    except OSError:  # deleted meanwhile
        return []
