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

POLL_SECONDS = 0.02


def make_state_folder(folder: Path) -> None:
    """Create a folder and its missing parents, accessible only by their owner and ignored by git.

    Existing folders stay as they are, because one may be a mounted volume or shared with other programs.

    Raises:
        OSError: The folder cannot be created.
    """
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    for path in reversed(missing):
        path.mkdir(mode=0o700, exist_ok=True)
    if missing:
        with suppress(OSError):  # a full disk may have room for the folder but not for the file
            (missing[-1] / ".gitignore").write_text("# State of this machine: never commit it.\n*\n", encoding="utf-8")


def try_lock(descriptor: int, file: Path) -> bool:
    """Lock an open file; return whether this process now holds the lock and the file is still at its path."""
    try:
        if sys.platform != "win32":
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(descriptor), file.stat())
    except OSError:
        return False


@contextmanager
def folder_lock(folder: Path, deadline: float = 0.0) -> Iterator[bool]:
    """Lock a folder; yield whether this process holds the lock, or the folder cannot be locked, as on NFS and Windows.

    If another process holds the lock, wait for it until `deadline` of `time.monotonic`.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        yield True
        return
    try:
        yield lock_until(descriptor, deadline)
    finally:
        os.close(descriptor)


def lock_until(descriptor: int, deadline: float) -> bool:
    """Lock an open file or folder; return False if another process still holds the lock at `deadline`.

    Without support for locks, as on NFS and Windows, return True.
    """
    while not (is_exclusive := _try_lock_or_unsupported(descriptor)) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    return is_exclusive


def _try_lock_or_unsupported(descriptor: int) -> bool:
    try:
        if sys.platform != "win32":
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in {errno.EWOULDBLOCK, errno.EACCES}
    return True
