"""The tags of a Dagster run that count its items, summed over its steps and attempts."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from ..step import Context
from .state_folder import make_state_folder

if sys.platform != "win32":
    import fcntl

COUNT = re.compile(r"(\d+) ([^,]+)")


def add_counts(context: Context, counts: Mapping[str, str], folder: Path) -> None:
    """Add `counts` to the run's tags, while holding a lock on a file in `folder`.

    Steps that end at the same moment on several machines may overwrite each other's tags, because Dagster cannot add to
    a tag but only set it.

    Args:
        context: Dagster's context of the step.
        counts: Tag -> text such as `12 sent, 1 dropped`.
        folder: The state folder.
    """
    with _locked(folder / "run_tags.lock"):
        record = context.instance.get_run_record_by_id(context.run_id)
        tags = record.dagster_run.tags if record else {}
        context.instance.add_run_tags(
            context.run_id, {name: total(tags.get(name), text) for name, text in counts.items()}
        )


def total(before: str | None, text: str) -> str:
    """Return the sum of two texts of counts, word by word; a text without counts, such as `off`, adds nothing."""
    if before is None or not COUNT.search(before):
        return text
    numbers: Counter[str] = Counter()
    for number, word in COUNT.findall(f"{before}, {text}"):
        numbers[word] += int(number)
    return ", ".join(f"{number} {word}" for word, number in numbers.items() if number) or text


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Lock out other processes of this machine; continue without a lock if the disk or system does not support it."""
    if sys.platform == "win32":
        yield
        return
    stream = None
    with suppress(OSError):
        make_state_folder(file.parent)
        stream = file.open("w")
        fcntl.flock(stream, fcntl.LOCK_EX)
    try:
        yield
    finally:
        if stream:
            stream.close()
