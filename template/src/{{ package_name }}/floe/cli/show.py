"""The command `floe lineage show`: the events of the last run, both sent and waiting, and a table's columns."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ..delivery.journal import LAST_JOURNAL, journals, read_lines
from ..lineage.backlog import root_of
from ..redact import ANSI_CODES

MESSAGE_LINES = 5
STATE_MARKS = {"START": "▶", "COMPLETE": "✓", "FAIL": "✗", "ABORT": "■"}


def last_run(folder: Path, node: str | None = None) -> Iterator[str]:
    """Yield a heading and the events of the last run with their errors, or nothing if there is no journal.

    With `node`, the name of a dbt node, yield its events alone, with the columns of what it has written.
    """
    files = _newest(folder)
    if not files:
        return
    events = [(line.content, line.is_waiting) for file in files for line in read_lines(file) if line.content]
    events.sort(key=lambda event: str(event[0].get("eventTime")))
    waiting = sum(is_waiting for _, is_waiting in events)
    yield f"{files[0] if len(files) == 1 else folder}: {len(events)} events, {waiting} not sent"
    for event, is_waiting in events:
        if node is not None and not _is_of(event, node):
            continue
        yield _line(event) + ("  (not sent)" if is_waiting else "")
        yield from _message(event)
        if node is not None:
            yield from _columns(event)


def similar_nodes(folder: Path, node: str) -> list[str]:
    """Return the names of up to three nodes of the last run that are spelled like `node`."""
    contents = (line.content for file in _newest(folder) for line in read_lines(file))
    jobs = {str(content.get("job", {}).get("name")) for content in contents if content}
    names = {name.lower(): name for name in (job.rpartition(".")[2] for job in jobs)}
    return [names[name] for name in difflib.get_close_matches(node.lower(), names)]


def _newest(folder: Path) -> list[Path]:
    """Return the journals of the last run: its steps may have one each."""
    files = [*journals(folder), *folder.glob(LAST_JOURNAL)]
    if not files:
        return []
    root = root_of(max(files, key=lambda file: file.stat().st_mtime))
    return [file for file in files if root_of(file) == root]


def _line(event: Mapping[str, Any]) -> str:
    state, job = str(event.get("eventType")), event.get("job", {})
    line = f"{str(event.get('eventTime'))[:19]} {STATE_MARKS.get(state, '·')} {state:<8} {job.get('name')}"
    inputs, outputs = (
        ", ".join(str(dataset.get("name")) for dataset in event.get(key, [])) for key in ("inputs", "outputs")
    )
    if state != "START" and (inputs or outputs):
        line += f"  {inputs} → {outputs or 'nothing'}"
    return line


def _is_of(event: Mapping[str, Any], node: str) -> bool:
    """Return whether an event is of a node, named by its unique id or by the last parts of it."""
    return bool(node) and f".{event.get('job', {}).get('name')}".endswith(f".{node}")


def _columns(event: Mapping[str, Any]) -> Iterator[str]:
    """Yield the columns of what a node has written, each with its origins, and what is not known about them."""
    for dataset in event.get("outputs", []):
        facets = dataset.get("facets", {})
        lineage = facets.get("columnLineage", {})
        origins = {name: _field(field.get("inputFields", [])) for name, field in lineage.get("fields", {}).items()}
        types = {field["name"]: field.get("type") for field in facets.get("schema", {}).get("fields", [])}
        names = list(types | origins)
        width = max(map(len, names), default=0)
        for name in names:
            shown = f"{name:<{width}}  {types.get(name) or ''}".rstrip()
            yield f"    {shown}{origins.get(name, '')}"
        if rows := _origins(lineage.get("dataset", [])):
            yield f"    The rows depend on {rows}"
    for error in event.get("run", {}).get("facets", {}).get("extractionError", {}).get("errors", []):
        yield f"    Not known: {error.get('errorMessage')}"


def _field(fields: Iterable[Mapping[str, Any]]) -> str:
    """Return the columns of which a value is made, and those that only decide on it, such as a condition's."""
    direct: list[Mapping[str, Any]] = []
    deciding: list[Mapping[str, Any]] = []
    for field in fields:
        is_direct = any(step.get("type") == "DIRECT" for step in field.get("transformations", []))
        (direct if is_direct else deciding).append(field)
    made_of = f" ← {_origins(direct)}" if direct else ""
    return made_of + (f" (decided by {_origins(deciding)})" if deciding else "")


def _origins(fields: Iterable[Mapping[str, Any]]) -> str:
    return ", ".join(f"{str(field.get('name')).rpartition('.')[2]}.{field.get('field')}" for field in fields)


def _message(event: Mapping[str, Any]) -> Iterator[str]:
    """Yield the first lines of an event's error message."""
    error = event.get("run", {}).get("facets", {}).get("errorMessage", {}).get("message", "")
    lines = [line.strip() for line in ANSI_CODES.sub("", error).splitlines() if line.strip()]
    for line in lines[:MESSAGE_LINES]:
        yield f"    {line}"
    if len(lines) > MESSAGE_LINES:
        yield f"    … and {len(lines) - MESSAGE_LINES} more lines in the event's errorMessage"
