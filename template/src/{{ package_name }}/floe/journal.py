"""What is to be sent, on disk before it is, so that no end of a process loses it.

A journal is an append-only file of JSON lines: items as they are sent, and `{"sent": <offset>}` for each line that
needs sending no more. Its process holds a lock on it as long as it lives; a journal that can be locked is a dead
one's, and whoever locks it sends the rest. All bytes go to the file in one call an item and without fsync: what a
killed process has written stays, what a power cut takes is lost.
"""

from __future__ import annotations

import errno
import json
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

if sys.platform != "win32":
    import fcntl

FOLDER_BYTES = 64 * 1024 * 1024  # of all journals together
# The last journal of which everything has arrived, to look at.
LAST = "last.ndjson"
STALE_SECONDS = 86_400  # on Windows, which has no such lock: what has not grown for so long is a dead one's


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a journal; `told` is nothing where it is no JSON object, torn by a crash or a full disk."""

    offset: int
    told: Mapping[str, Any] | None


class Journal:
    """A file that this process has locked; `append` and `acknowledge` may be called from any thread, and never raise.

    `error` is the first one that the disk has given.
    """

    def __init__(self, file: Path, descriptor: int, room: int) -> None:
        """Take a locked descriptor, and how many bytes may be appended."""
        self.file = file
        self.error = ""
        self._descriptor: int | None = descriptor
        self._size = os.fstat(descriptor).st_size
        self._limit = self._size + room
        self._torn = self._size > 0  # of a dead process, the last line may be
        self.waiting: set[int] = set()  # where items stand that are not acknowledged
        self._lock = threading.Lock()

    @classmethod
    def create(cls, folder: Path, name: str) -> Journal:
        """Make a journal in `folder`, readable by its owner alone.

        Raises:
            OSError: The disk takes no file.
        """
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        room = FOLDER_BYTES - sum(file.stat().st_size for file in journals(folder))
        file = folder / f"{name}-{uuid4().hex[:8]}.ndjson"
        descriptor = os.open(file, os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        if _locked(descriptor, file):
            return cls(file, descriptor, room)
        # Taken for a dead one's in the moment before it was locked, or the disk knows no locks.
        os.close(descriptor)
        raise OSError(errno.ENOLCK, "it could not be locked", str(file))

    @classmethod
    def claim(cls, file: Path) -> Journal | None:
        """Return the journal of a process that is no more; nothing if it lives, or if another one was faster."""
        try:
            if sys.platform == "win32" and time.time() - file.stat().st_mtime < STALE_SECONDS:
                return None
            descriptor = os.open(file, os.O_APPEND | os.O_RDWR)
        except OSError:
            return None
        if _locked(descriptor, file):
            return cls(file, descriptor, FOLDER_BYTES)
        os.close(descriptor)
        return None

    def append(self, text: str) -> int | None:
        """Append an item on one line; return where it stands, or nothing if it could not be kept."""
        with self._lock:
            if self._size + len(text) > self._limit:
                self.error = self.error or f"{self.file.parent} has {FOLDER_BYTES >> 20} MiB, and takes no more"
                return None
            offset = self._write(text)
            if offset is not None:
                self.waiting.add(offset)
            return offset

    def acknowledge(self, offset: int | None) -> None:
        """Cross off the item at `offset`: it needs sending no more."""
        if offset is not None:
            with self._lock:
                self.waiting.discard(offset)
                self._write(json.dumps({"sent": offset}))

    def read(self) -> Iterator[Line]:
        """Yield the items of the file; from the last one on, `waiting` is what it has left to send."""
        found = set()
        for line in read_lines(self.file):
            sent = (line.told or {}).get("sent")
            if isinstance(sent, int):
                found.discard(sent)
            else:
                found.add(line.offset)
                yield line
        self.waiting = found

    def text(self, offset: int) -> str:
        """Return the item that stands at `offset`, blank if it is torn."""
        with self.file.open("rb") as stream:
            stream.seek(offset)
            raw = stream.readline()
        return raw.decode().rstrip("\n") if _told(raw) else ""

    def close(self, *, keep_as_last: bool = False) -> None:
        """Let go of the file; with `keep_as_last` it becomes `LAST` if all that was appended has been acknowledged."""
        with self._lock:
            if self._descriptor is None:
                return
            os.close(self._descriptor)
            self._descriptor = None
            if keep_as_last and not self.waiting:
                with suppress(OSError):
                    self.file.replace(self.file.with_name(LAST))

    def remove(self) -> None:
        """Delete the file, and let go of it."""
        with suppress(OSError):
            self.file.unlink()
        self.close()

    def _write(self, text: str) -> int | None:
        if self._descriptor is None:
            return None
        start = b"\n" if self._torn else b""
        data = start + text.encode() + b"\n"
        try:
            written = os.write(self._descriptor, data)
        except OSError as error:
            self.error = self.error or f"{self.file}: {error.strerror}"
            return None
        offset = self._size + len(start)
        self._size += written
        self._torn = written < len(data)
        if self._torn:
            self.error = self.error or f"{self.file}: the disk is full"
        return None if self._torn else offset


def journals(folder: Path) -> list[Path]:
    """Return the journals of living and dead processes, oldest first."""
    found = []
    for file in folder.glob("[!.]*.ndjson"):
        with suppress(OSError):  # deleted meanwhile
            if file.name != LAST:
                found.append((file.stat().st_mtime, file))
    return [file for _, file in sorted(found)]


def left_behind(folder: Path, *, keep_last: bool = False) -> Iterator[Journal]:
    """Yield the journals of dead processes, oldest first; one of which all has been acknowledged is then deleted.

    With `keep_last` it becomes `LAST` instead.
    """
    for file in journals(folder):
        if journal := Journal.claim(file):
            try:
                yield journal
                is_done = not journal.waiting and not journal.error
                if is_done and keep_last:
                    journal.close(keep_as_last=True)
                elif is_done:
                    journal.remove()
            finally:
                journal.close()


def read_lines(file: Path) -> Iterator[Line]:
    """Yield the lines of a file."""
    offset = 0
    with file.open("rb") as stream:
        for raw in stream:
            if raw.strip():
                yield Line(offset, _told(raw))
            offset += len(raw)


def _told(raw: bytes) -> Mapping[str, Any] | None:
    try:
        told = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return told if isinstance(told, dict) else None


def _locked(descriptor: int, file: Path) -> bool:
    """Lock a file that has been opened; say whether it is this process's now, and still where it was."""
    try:
        if sys.platform != "win32":
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(descriptor), file.stat())
    except OSError:
        return False
