"""The outbox, which writes each run event to the journal and then sends it.

An event is converted to JSON once, and that text is stored and sent. The events of one run id are sent in the order in
which they happened, whichever process sends them. Events left by dead processes are sent as well. Each run that a dead
process left open gets an ABORT event, at the time when the process last wrote to its journal.
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
from ..delivery.journal import LAST_JOURNAL, Journal, Line, journals, none_runs, read_lines
from ..delivery.limits import SPOOL_SECONDS
from ..delivery.sender import Delivery
from ..redact import redact_json, redactor
from .backlog import Entry, OpenRun, all_lost, end_of, root_of, run_of, unsent
from .ended_runs import forget_old_marks, mark_ended
from .event_json import as_json
from .transports import Send, sender

# The part of a replay's deadline that is left for reporting why it sent nothing.
SPARE_SECONDS = SPOOL_SECONDS + 0.2
UNREPORTED = "The run ended without reporting a result; see its Dagster log."


class Outbox:
    """The outbox for the run events of one step."""

    def __init__(
        self,
        client: OpenLineageClient,
        folder: Path,
        run_id: str,
        is_running: Callable[[str], bool] = none_runs,
        *,
        replays: bool = True,
    ) -> None:
        """Send through the configured `client`, with journals in `folder`, for the Dagster run `run_id`.

        `is_running` says of other Dagster runs whether they go on. Earlier events are sent as well if it `replays`.
        """
        self._client = client
        self._folder = folder
        self._run_id = run_id
        self._open: dict[str, tuple[RunEvent, int | None]] = {}  # run id -> its START, and the START's offset
        self._error = ""
        self._has_ended = False  # the Dagster run, as far as this process knows
        self._redact = redactor()
        self._journal: Journal | None = None
        try:
            self._journal = Journal.create(folder, run_id)
        except OSError as error:
            self._error = one_line(error)
        send = sender(client.transport)
        # The client adds its own facets and filters jobs as the owner configures, then hands the events back to us.
        client.transport = _JournalTransport(self._accept)
        # Before the backlog claims the journals of dead processes.
        unsent_earlier = self._take_over() if replays else []
        backlog = unsent(folder, run_id, is_running=is_running)
        self._delivery = Delivery(LineageChannel(send, backlog), unsent_earlier or (), replays=replays)

    @property
    def counts(self) -> Counts:
        """Return the counts of the events so far."""
        return self._delivery.counts

    def put(self, event: RunEvent) -> None:
        """Store an event, and send it soon."""
        self._client.emit(event)

    def close(self, deadline: float) -> Counts:
        """Send events until `deadline` of `time.monotonic`, and leave the rest to the next run."""
        self._open.pop(self._run_id, None)  # another attempt or step ends the Dagster run
        for run_id, (start, offset) in self._open.items():
            self._deliver(run_id, end_of(Serde.to_dict(start), datetime.now(UTC), UNREPORTED), offset)
        if self._has_ended:
            mark_ended(self._folder, self._run_id)  # in case that the process is killed before Dagster knows
        forget_old_marks(self._folder)
        counts = self._delivery.close(deadline)
        if self._journal:
            self._error = self._journal.error
            roots = [root_of(file) for file in (self._journal.file, self._folder / LAST_JOURNAL)]
            self._journal.close(keep_as_last=True, continues_last=roots[0] == roots[1])
        counts.disk_error = self._error
        return counts

    def _accept(self, event: RunEvent) -> None:
        try:
            text = as_json(event)
        except Exception:  # such as half a surrogate pair in a message, which the client's own conversion accepts
            text = Serde.to_json(event)
        run_id = event.run.runId
        self._has_ended |= run_id == self._run_id and event.eventType is not RunState.START
        if event.eventType is RunState.START:
            self._open[run_id] = (event, self._deliver(run_id, text))
        else:
            _, start = self._open.pop(run_id, (None, None))
            self._deliver(run_id, text, start)

    def _deliver(self, run_id: str, text: str, start: int | None = None) -> int | None:
        """Write an event to the journal, and send it; return its offset, or None if it could not be written.

        `start` is the offset of the START of its run, if the event is the run's end.
        """
        text = redact_json(text, self._redact)
        earlier = self._take_over() if run_id == self._run_id else []
        for entry in earlier or ():
            self._delivery.put(entry)
        offset = self._journal.append(text) if self._journal else None
        entry = Entry(run_id, self._journal, offset, text, start if offset is None else None)
        if earlier is None and offset is not None:
            self._delivery.leave(entry, "another process is sending the earlier events of its run")
        else:
            self._delivery.put(entry)
        return offset

    def _take_over(self) -> list[Entry] | None:
        """Move the Dagster run's own events from the journals of its earlier attempts to this attempt's journal.

        A start that was already sent is moved as well, because whichever process comes last ends the run.

        Returns:
            The unsent events, or None if another process is about to send some.
        """
        moved: list[Entry] = []
        for file in journals(self._folder):
            if self._journal is None or file == self._journal.file or not file.name.startswith(self._run_id):
                continue
            earlier = Journal.claim(file)
            if earlier is None:
                if any(line.is_waiting for line in self._own_lines(_lines(file))):
                    return None
                continue
            with closing(earlier):
                for line in self._own_lines(list(earlier.read())):
                    text = earlier.text(line.offset)
                    if (offset := self._journal.append(text)) is None:
                        continue
                    earlier.erase(line.offset)
                    if line.is_waiting:
                        moved.append(Entry(self._run_id, self._journal, offset, text))
                    else:
                        self._journal.acknowledge(offset)
        return moved

    def _own_lines(self, lines: Iterable[Line]) -> Iterator[Line]:
        return (line for line in lines if run_of(line)[0] == self._run_id)


class _JournalTransport(Transport):
    """A transport that passes on the events that the client would send."""

    kind = "journal"

    def __init__(self, take: Callable[[RunEvent], None]) -> None:
        self._take = take

    def emit(self, event: Any) -> None:
        self._take(event)


def replay(
    transport: Transport,
    folder: Path,
    deadline: float,
    state_of: Callable[[str], OpenRun] = all_lost,
    is_running: Callable[[str], bool] = none_runs,
    *,
    waits: bool = True,
) -> Counts:
    """Send the events of dead processes until `deadline` of `time.monotonic`, and end the runs that they left open.

    Args:
        transport: The transport.
        folder: The folder of the journals.
        deadline: The end.
        state_of: Says which of the open runs end.
        is_running: Says which Dagster runs go on; their journals on other hosts are left alone.
        waits: Whether to wait for another process that is doing the same; otherwise, leave everything to it.
    """
    wait_until = deadline - SPARE_SECONDS if waits else 0.0
    backlog = unsent(folder, deadline=wait_until, state_of=state_of, is_running=is_running)
    channel = LineageChannel(sender(transport), backlog)
    return Delivery(channel).close(deadline)


class LineageChannel(Channel[Entry]):
    """The channel of run events, in order within each run; each is in a journal before it is sent."""

    name = "lineage"

    def __init__(self, send: Send, backlog: Iterator[Entry]) -> None:
        self._send = send
        self._backlog = backlog

    def send(self, items: Sequence[Entry]) -> None:
        """Send events.

        Raises:
            RefusedError: The receiver will never accept one of them, or its line in the journal is torn.
        """
        for entry in items:
            if not (text := entry.text):
                raise RefusedError("a line of a journal is torn, so its event is lost")
            self._send(text)

    def size(self, item: Entry) -> int:
        """Return the size of an event that is in memory; others are read from disk when they are sent."""
        return len(item.in_memory or "")

    def sequence(self, item: Entry) -> str | None:
        """Return the id of the event's run."""
        return item.run_id or None

    def acknowledge(self, items: Sequence[Entry]) -> None:
        """Mark events in their journals as no longer waiting."""
        for entry in items:
            entry.acknowledge()

    def spool(self, items: Sequence[Entry], _: float) -> int:
        """Return how many of the events are in a journal, where they stay for the next run."""
        return sum(entry.offset is not None for entry in items)

    def backlog(self) -> Iterator[Entry]:
        """Yield the events of dead processes."""
        return self._backlog


def _lines(file: Path) -> list[Line]:
    try:
        return list(read_lines(file))
    except OSError:  # deleted in the meantime
        return []
