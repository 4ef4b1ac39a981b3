"""The tags of a Dagster run that count its items, summed over its steps and attempts."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from ..step import Context
from .state_folder import lock_until, make_state_folder

# Says that the end of a run was sent. The value is the run's id, because Dagster copies tags to a run that repeats it.
# Dagster does not show tags that begin with `.dagster/`.
ENDED_TAG = ".dagster/floe_end"
COUNT = re.compile(r"(\d+) ([^,]+)")


def add_counts(context: Context, counts: Mapping[str, str], folder: Path, deadline: float) -> bool:
    """Add `counts` to the run's tags; return False if another process has held the lock until `deadline`.

    Dagster cannot add to a tag but only set it. So steps that end at the same moment may overwrite each other's tags if
    they run on several machines or do not get the lock.

    Args:
        context: Dagster's context of the step.
        counts: Tag -> text such as `12 sent, 1 dropped`.
        folder: The state folder, which contains the file to lock.
        deadline: The end of the wait for the lock, in the time of `time.monotonic`.
    """
    with _locked(folder / "run_tags.lock", deadline) as is_exclusive:
        record = context.instance.get_run_record_by_id(context.run_id)
        tags = record.dagster_run.tags if record else {}
        context.instance.add_run_tags(
            context.run_id, {name: total(tags.get(name), text) for name, text in counts.items()}
        )
    return is_exclusive


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
