"""The state folder, which outlives a run, and its locks within a host and between hosts."""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import Enum
from pathlib import Path

from .liveness import heartbeat, is_of_other_host, is_stale, own_token

if sys.platform != "win32":
    import fcntl

POLL_SECONDS = 0.02
LEASE = ".replay"  # the file that locks a folder between hosts; it contains its owner's token


class Lock(Enum):
    """The result of an attempt to lock a file within this host."""

    HELD = "this process holds the lock"
    REFUSED = "another process holds it, or the file has been replaced"
    UNSUPPORTED = "the system or the disk has no such locks, as Windows and some volumes"


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


def try_lock(descriptor: int, file: Path) -> Lock:
    """Lock an open file within this host, and check that it is still at its path."""
    lock = _try_lock(descriptor)
    try:
        return lock if os.path.samestat(os.fstat(descriptor), file.stat()) else Lock.REFUSED
    except OSError:
        return Lock.REFUSED


@contextmanager
def folder_lock(folder: Path, deadline: float = 0.0) -> Iterator[bool]:
    """Lock a folder; yield whether this process holds the lock, or the folder cannot be locked.

    If another process holds the lock, here or on another host, wait for it until `deadline` of `time.monotonic`.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # missing, or Windows
        descriptor = None
    try:
        lock = _lock_until(descriptor, deadline) if descriptor is not None else Lock.UNSUPPORTED
        if lock is Lock.REFUSED or not folder.is_dir():
            yield lock is not Lock.REFUSED
            return
        token = own_token()
        lease = folder / LEASE
        is_held, is_leased = _lease_until(lease, token, deadline, alone_on_host=lock is Lock.HELD)
        if is_leased:
            heartbeat.add(lease)
        try:
            yield is_held
        finally:
            if is_leased:
                heartbeat.remove(lease)
                if _token(lease) in {token, ""}:  # a full disk has no room for the token
                    lease.unlink(missing_ok=True)
    finally:
        if descriptor is not None:
            os.close(descriptor)


def lock_until(descriptor: int, deadline: float) -> bool:
    """Lock an open file within this host; return False if another process still holds the lock at `deadline`.

    Without support for locks, return True.
    """
    return _lock_until(descriptor, deadline) is not Lock.REFUSED


def _lock_until(descriptor: int, deadline: float) -> Lock:
    while (lock := _try_lock(descriptor)) is Lock.REFUSED and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    return lock


def _try_lock(descriptor: int) -> Lock:
    try:
        if sys.platform == "win32":
            return Lock.UNSUPPORTED
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return Lock.REFUSED if error.errno in {errno.EWOULDBLOCK, errno.EACCES} else Lock.UNSUPPORTED
    return Lock.HELD


def _lease_until(lease: Path, token: str, deadline: float, *, alone_on_host: bool) -> tuple[bool, bool]:
    """Create the file `lease`; return whether to go on, and whether this process has created it.

    A disk on which files cannot be created is not shared for writing. Then nothing has to be locked.
    """
    while True:
        try:
            descriptor = os.open(lease, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        except FileExistsError:
            if _break_lease(lease, alone_on_host=alone_on_host):
                continue
            if time.monotonic() >= deadline:
                return False, False
            time.sleep(POLL_SECONDS)
        except OSError:
            return True, False
        else:
            with suppress(OSError):
                os.write(descriptor, token.encode())
            os.close(descriptor)
            return True, True


def _break_lease(lease: Path, *, alone_on_host: bool) -> bool:
    """Remove the lease of a dead process; return whether it is gone.

    `alone_on_host` says that no other process of this host is alive that could hold it.
    """
    try:
        descriptor = os.open(lease, os.O_RDONLY)
    except OSError:
        return not lease.exists()
    try:
        token = _token(lease)
        is_dead = token and alone_on_host and not is_of_other_host(token)
        if not is_dead and not is_stale(descriptor, lease.parent):
            return False
        broken = lease.with_name(f"{LEASE}-{own_token()}")
        lease.rename(broken)
        if not os.path.samestat(os.fstat(descriptor), broken.stat()):  # another process has created it in the meantime
            os.link(broken, lease)
        broken.unlink()
    except OSError:
        return not lease.exists()
    finally:
        os.close(descriptor)
    return True


def _token(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError:
        return ""
