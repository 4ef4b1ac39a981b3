"""The tags of a Dagster run that count its items, summed over its steps and attempts."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from multiprocessing.util import Finalize
from pathlib import Path

import dagster as dg

from ..step import Context
from .state_folder import lock_until, make_state_folder

# Says that the end of a run was sent. The value is the run's id, because Dagster copies tags to a run that repeats it.
# Dagster does not show tags that begin with `.dagster/`.
ENDED_TAG = ".dagster/floe_end"
# Says for which run the counts are, likewise.
COUNTED_TAG = ".dagster/floe_counted"
COUNT = re.compile(r"(\d+) ([^,]+)")


# Counts that this process has not written yet, by run id: several steps of one process are written at once.
_held: dict[str, dict[str, str]] = {}
_written: set[str] = set()


def hold_counts(context: Context, counts: Mapping[str, str]) -> bool:
    """Keep `counts` until the run ends in this process; return False for the first step of the process.

    That one is written at once, because it may be the only one: most executors start a process per step.
    """
    if context.run_id not in _written:
        return False
    if context.run_id not in _held:
        Finalize(None, _write_held, (context.instance, context.run_id), exitpriority=50)
    _held[context.run_id] = _sums(_held.get(context.run_id, {}), counts)
    return True


def _write_held(instance: dg.DagsterInstance, run_id: str) -> None:
    """Write what is still held when the process exits, because the run has ended elsewhere."""
    if held := _held.pop(run_id, None):
        with suppress(Exception):  # the instance may be closed
            run = instance.get_run_by_id(run_id)
            instance.add_run_tags(run_id, _added(run_id, run.tags if run else {}, held))


def add_counts(context: Context, counts: Mapping[str, str], folder: Path, deadline: float) -> bool:
    """Add `counts`, and those held, to the run's tags; return False if another process holds the lock at `deadline`.

    Dagster cannot add to a tag but only set it. So steps that end at the same moment may overwrite each other's tags if
    they run on several machines or do not get the lock.

    Args:
        context: Dagster's context of the step.
        counts: Tag -> text such as `12 sent, 1 dropped`.
        folder: The state folder, which contains the file to lock.
        deadline: The end of the wait for the lock, in the time of `time.monotonic`.
    """
    counts = _sums(_held.pop(context.run_id, {}), counts)
    _written.clear()
    _written.add(context.run_id)
    with _locked(folder / "run_tags.lock", deadline) as is_exclusive:
        record = context.instance.get_run_record_by_id(context.run_id)
        tags = record.dagster_run.tags if record else {}
        context.instance.add_run_tags(context.run_id, _added(context.run_id, tags, counts))
    return is_exclusive


def _added(run_id: str, tags: Mapping[str, str], counts: Mapping[str, str]) -> dict[str, str]:
    """Return the tags of a run with further counts, without those of the run that it repeats."""
    before = tags if tags.get(COUNTED_TAG) == run_id else {}
    return {**_sums(before, counts), COUNTED_TAG: run_id}


def _sums(before: Mapping[str, str], counts: Mapping[str, str]) -> dict[str, str]:
    return {name: total(before.get(name), text) for name, text in counts.items()}


def total(before: str | None, text: str) -> str:
    """Return the sum of two texts of counts, word by word; a text without counts, such as `off`, adds nothing."""
    if before is None or not COUNT.search(before):
        return text
    numbers: Counter[str] = Counter()
    for number, word in COUNT.findall(f"{before}, {text}"):
        numbers[word] += int(number)
    return ", ".join(f"{number} {word}" for word, number in numbers.items() if number) or text


@contextmanager
def _locked(file: Path, deadline: float) -> Iterator[bool]:
    """Lock out other processes of this machine until `deadline`; yield False if one of them holds the lock then.

    A disk or a system without support for locks counts as locked.
    """
    is_exclusive, stream = True, None
    with suppress(OSError):
        make_state_folder(file.parent)
        stream = file.open("w")
        is_exclusive = lock_until(stream.fileno(), deadline)
    try:
        yield is_exclusive
    finally:
        if stream:
            stream.close()
