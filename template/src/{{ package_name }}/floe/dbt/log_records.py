"""dbt's console output as records of the logger `dbt`, if logs are JSON.

In: the events of a dbt command. Out: the same events, and a record per line with the event's code, its node, the
node's asset and the id of the node's span. In the console form, `console_lines.py` writes dbt's own lines.
"""

from __future__ import annotations

import io
import logging
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import nullcontext, redirect_stdout
from typing import Any, TextIO

import structlog
from dagster_dbt import DbtCliInvocation
from dagster_dbt.core.dbt_cli_event import DbtCliEventMessage

from ..ids import node_span_id
from ..logs import is_json
from .console_lines import LEVELS, ConsoleLines
from .manifest_graph import ASSETS


def read_events(invocation: DbtCliInvocation) -> Iterator[DbtCliEventMessage]:
    """Yield the events of a dbt command, and log what dagster-dbt prints for each."""
    events = invocation.stream_raw_events()
    with nullcontext() if is_json() else ConsoleLines() as console:
        while True:
            # dagster-dbt prints the text of each event and offers no other way to get it.
            printed, event = _OwnLines(sys.stdout), None
            try:
                with redirect_stdout(printed):
                    event = next(events, None)
            finally:
                rest = printed.text.getvalue().removesuffix(f"{event}\n")
                if console is None:
                    _log(rest, event, invocation)
                else:
                    console.write(rest, event)
            if event is None:
                return
            yield event


def _log(rest: str, event: DbtCliEventMessage | None, invocation: DbtCliInvocation) -> None:
    """Log an event of dbt and the `rest` of the printed text: lines that are not events, such as a traceback."""
    log = structlog.get_logger("dbt")
    for line in rest.splitlines():
        log.info(line)
    if event is None:
        return
    info = event.raw_event["info"]
    if message := info["msg"].strip():
        log.log(LEVELS.get(info["level"], logging.INFO), message, **_fields(event.raw_event, invocation))


class _OwnLines(io.TextIOBase):
    """A stream that captures what this thread prints; other threads' output goes to the original stream."""

    def __init__(self, out: TextIO) -> None:
        self.text = io.StringIO()
        self._out = out
        self._thread = threading.get_ident()

    def write(self, text: str) -> int:
        return (self.text if threading.get_ident() == self._thread else self._out).write(text)


def _fields(raw: Mapping[str, Any], invocation: DbtCliInvocation) -> dict[str, str]:
    info, unique_id = raw["info"], raw["data"].get("node_info", {}).get("unique_id")
    fields = {"invocation_id": info["invocation_id"], "dbt_event": info["name"], "dbt_code": info.get("code")}
    if unique_id:
        fields |= {"node": unique_id, "span_id": f"{node_span_id(info['invocation_id'], unique_id):016x}"}
        node = invocation.manifest.get("nodes", {}).get(unique_id)
        if node and node["resource_type"] in ASSETS:
            fields["asset"] = invocation.dagster_dbt_translator.get_asset_key(node).to_user_string()
    return fields
