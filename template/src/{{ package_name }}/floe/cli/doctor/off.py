"""The findings about what is switched off and what is waiting to be sent; they need no client."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ...delivery.counts import Counts
from ...delivery.journal import Journal, all_run, is_left_by_other_host, journals, read_lines
from ...settings import Settings, lineage_is_off, otlp_is_off, switch
from .finding import Finding

VARIABLES = {
    "lineage": "OPENLINEAGE_URL",
    "traces": "OTEL_EXPORTER_OTLP_ENDPOINT",
    "metrics": "OTEL_EXPORTER_OTLP_ENDPOINT",
}
ITEMS = {"lineage": "events", "traces": "spans"}


def is_off(settings: Settings, check: str) -> bool:
    """Return whether the check's subject is switched off."""
    if check == "lineage":
        return lineage_is_off(settings)
    return check in VARIABLES and otlp_is_off(settings, check)


def switched_off(settings: Settings, check: str) -> Iterator[Finding]:
    """Report that nothing is sent, and what is waiting to be sent."""
    if reason := switch(check):
        yield Finding(check, "off", f"{reason} switches it off, so nothing is sent")
    else:
        yield Finding(check, "off", f"no endpoint is set, so nothing is sent: set {VARIABLES[check]}")
    if check in ITEMS:
        yield from waiting(check, ITEMS[check], settings.state_dir / check)


def waiting(check: str, what: str, folder: Path, counts: Counts | None = None) -> Iterator[Finding]:
    """Report how much of earlier runs is waiting."""
    name = f"{check} waiting"
    if counts and counts.replayed:
        yield Finding(name, "ok", f"{counts.replayed} {what} of earlier runs have been sent now")
    if counts and counts.dropped:
        yield Finding(name, "warn", f"{counts.dropped} {what} of earlier runs were dropped: {counts.last_error}")
    items, size = count_waiting(folder)
    if items:
        message = f"{items} {what} are waiting in {folder} ({size / 1024:.0f} KiB); the next run sends them if it can"
        yield Finding(name, "warn", message)
    elif not counts or not counts.replayed:
        yield Finding(name, "ok", f"no {what} are waiting")


def count_waiting(folder: Path) -> tuple[int, int]:
    """Return how many items of dead processes are waiting in a folder, and the size of their files in bytes."""
    items = size = 0
    for file in journals(folder):
        journal = Journal.claim(file, all_run)
        with suppress(OSError):  # sent in the meantime
            if journal or is_left_by_other_host(file):
                items += sum(line.is_waiting for line in read_lines(file))
                size += file.stat().st_size
        if journal:
            journal.close()
    return items, size
