"""The liveness of processes that share a state folder, on one host or on several.

On one host, the lock on a file says whether its process is alive. Between hosts, such as the pods of a cluster, the
locks of a shared volume may be local to each host, and process ids repeat. So the name of a file contains the host, and
a living process touches its files every few seconds. Only times of the volume are compared, because clocks differ.
"""

from __future__ import annotations

import os
import socket
import threading
import uuid
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from hashlib import sha256
from pathlib import Path

from .limits import BEAT_SECONDS, STALE_SECONDS

HOST_DIGITS, PROCESS_DIGITS = 12, 8
# Each is different on another machine or after a restart of it, and in another container.
HOST_FILES: tuple[tuple[str, Callable[[str], str]], ...] = (
    ("/proc/sys/kernel/random/boot_id", lambda file: Path(file).read_text(encoding="utf-8")),
    ("/proc/self/ns/pid", os.readlink),
)


@cache
def host_id() -> str:
    """Return an id that the processes of this host, or of this container, share with no others."""
    parts = [socket.gethostname(), str(uuid.getnode())]
    for file, read in HOST_FILES:
        with suppress(OSError):  # not Linux
            parts.append(read(file))
    return sha256("\0".join(parts).encode()).hexdigest()[:HOST_DIGITS]


def own_token() -> str:
    """Return a new token that names this host and is unique."""
    return host_id() + uuid.uuid4().hex[:PROCESS_DIGITS]


def is_of_other_host(token: str) -> bool:
    """Return whether a token is of another host; those of earlier releases name no host."""
    return len(token) == HOST_DIGITS + PROCESS_DIGITS and not token.startswith(host_id())


def is_stale(descriptor: int, folder: Path) -> bool:
    """Return whether an open file in `folder` has not been touched for so long that its process must be dead."""
    return _now(folder) - os.fstat(descriptor).st_mtime > STALE_SECONDS


def _now(folder: Path) -> float:
    """Return the time of the volume."""
    probe = folder / f".{own_token()}"
    descriptor = os.open(probe, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        return os.fstat(descriptor).st_mtime
    finally:
        os.close(descriptor)
        probe.unlink()


class Heartbeat:
    """A thread that touches files of this process while it lives, as long as there are any."""

    def __init__(self) -> None:
        self._files: set[Path] = set()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def add(self, file: Path) -> None:
        """Touch a file now and from now on."""
        _touch(file)
        with self._changed:
            self._files.add(file)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._work, name="journal-heartbeat", daemon=True)
                self._thread.start()

    def remove(self, file: Path) -> None:
        """Touch a file no longer."""
        with self._changed:
            self._files.discard(file)
            self._changed.notify()

    def forget(self) -> None:
        """Forget all files, which belong to the process that this one was forked from."""
        self.__init__()  # type: ignore[misc]

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: not self._files, BEAT_SECONDS)
                if not self._files:
                    self._thread = None
                    return
                files = list(self._files)
            for file in files:
                _touch(file)


def _touch(file: Path) -> None:
    with suppress(OSError):  # deleted, or taken over by another host
        os.utime(file)


heartbeat = Heartbeat()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=heartbeat.forget)
