"""The state folder, which outlives a run, and its locks."""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

if sys.platform != "win32":
    import fcntl


def make_state_folder(folder: Path) -> None:
    """Make a folder, and those above it, for their owner alone; git ignores what is made.

    Folders that exist stay as they are: one may be a mounted volume, or shared with other programs.

    Raises:
        OSError: The disk takes no folder.
    """
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    for path in reversed(missing):
        path.mkdir(mode=0o700, exist_ok=True)
    if missing:
        with suppress(OSError):  # a full disk takes the folder, but no text
            (missing[-1] / ".gitignore").write_text("# State of this machine: never commit it.\n*\n", encoding="utf-8")


def is_locked(descriptor: int, file: Path) -> bool:
    """Lock a file that has been opened; say whether it is this process's now, and still where it was."""
    try:
        if sys.platform != "win32":
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(descriptor), file.stat())
    except OSError:
        return False


@contextmanager
def alone_in(folder: Path, deadline: float = 0.0) -> Iterator[bool]:
    """Lock a folder; say whether it is this process's now, or cannot be locked, as on NFS and Windows.

    Another process that holds the lock is waited for until `deadline` of `time.monotonic`.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        yield True
        return
    try:
        while not (is_alone := _is_locked_folder(descriptor)) and time.monotonic() < deadline:
            time.sleep(0.05)
        yield is_alone
    finally:
        os.close(descriptor)


def _is_locked_folder(descriptor: int) -> bool:
    try:
        if sys.platform != "win32":
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in {errno.EWOULDBLOCK, errno.EACCES}
    return True
