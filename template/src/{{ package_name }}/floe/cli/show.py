"""The command `floe lineage show`: the events of the last run, both sent and waiting."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..delivery.journal import LAST_JOURNAL, journals, read_lines
from ..redact import ANSI_CODES

MESSAGE_LINES = 5
STATE_MARKS = {"START": "▶", "COMPLETE": "✓", "FAIL": "✗", "ABORT": "■"}


def last_run(folder: Path) -> Iterator[str]:
    """Yield a heading and the events of the newest journal with their errors, or nothing if there is no journal."""
    files = [*journals(folder), *folder.glob(LAST_JOURNAL)]
    if not files:
        return
    file = max(files, key=lambda file: file.stat().st_mtime)
    events = [(line.content, line.is_waiting) for line in read_lines(file) if line.content]
    yield f"{file}: {len(events)} events, {sum(is_waiting for _, is_waiting in events)} not sent"
    for event, is_waiting in events:
        yield _line(event) + ("  (not sent)" if is_waiting else "")
        yield from _message(event)


def _line(event: Mapping[str, Any]) -> str:
    state, job = str(event.get("eventType")), event.get("job", {})
    line = f"{str(event.get('eventTime'))[:19]} {STATE_MARKS.get(state, '·')} {state:<8} {job.get('name')}"
    inputs, outputs = (
        ", ".join(str(dataset.get("name")) for dataset in event.get(key, [])) for key in ("inputs", "outputs")
    )
    if state != "START" and (inputs or outputs):
        line += f"  {inputs} → {outputs or 'nothing'}"
    return line


def _message(event: Mapping[str, Any]) -> Iterator[str]:
    """Yield the first lines of an event's error message."""
    error = event.get("run", {}).get("facets", {}).get("errorMessage", {}).get("message", "")
    lines = [line.strip() for line in ANSI_CODES.sub("", error).splitlines() if line.strip()]
    for line in lines[:MESSAGE_LINES]:
        yield f"    {line}"
    if len(lines) > MESSAGE_LINES:
        yield f"    … and {len(lines) - MESSAGE_LINES} more lines in the event's errorMessage"
