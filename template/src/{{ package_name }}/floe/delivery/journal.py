"""The journal: items written to disk before they are sent, so that a killed process loses none.

A journal is a file of JSON lines, one per item. A line begins with a space as long as the item waits, and with a tab
once it needs sending no more: both are blank in JSON, and crossing a line off takes no space on a full disk. A process
holds a lock on its journal as long as it lives. A journal that can be locked is a dead process's; whoever locks it
sends the rest. Each item is one call of `write` without fsync: what a killed process has written stays, what a power
cut takes is lost.
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

from .state import is_locked, make_state_folder

FOLDER_BYTES = 64 * 1024 * 1024  # of all journals together
# The last journal of which everything has arrived, to look at.
LAST_JOURNAL = "last.ndjson"
STALE_SECONDS = 86_400  # on Windows, which has no such lock: what has not grown for so long is a dead one's
WAITING, SENT = b" ", b"\t"
FLAGS = os.O_RDWR | getattr(os, "O_BINARY", 0)


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a journal; `content` is nothing if it is no JSON object: torn by a crash or a full disk."""

    offset: int
    content: Mapping[str, Any] | None
    is_waiting: bool


class Journal:
    """A file that this process has locked; its methods may be called from any thread.

    Attributes:
        file: The file.
        error: The first error of the disk, which is raised by none of the methods.
        waiting: Offsets of the items that are not acknowledged.
    """

    def __init__(self, file: Path, descriptor: int, room: int) -> None:
        """Take a locked descriptor, and how many bytes may be appended."""
        self.file = file
        self.error = ""
        self.waiting: set[int] = set()
        self._descriptor: int | None = descriptor
        self._size = os.fstat(descriptor).st_size
        self._limit = self._size + room
        self._is_torn = self._size > 0  # the last line of a dead process may be
        self._lock = threading.Lock()

    @classmethod
    def create(cls, folder: Path, name: str) -> Journal:
        """Make a journal in `folder`, readable by its owner alone.

        Raises:
            OSError: The disk takes no file.
        """
        make_state_folder(folder)
        room = FOLDER_BYTES - sum(map(_size, journals(folder)))
        file = folder / f"{name}-{time.time_ns()}-{uuid4().hex[:8]}.ndjson"
        descriptor = os.open(file, FLAGS | os.O_CREAT | os.O_EXCL, 0o600)
        if is_locked(descriptor, file):
            return cls(file, descriptor, room)
        # Taken for a dead one's in the moment before it was locked, or the disk knows no locks.
        os.close(descriptor)
        raise OSError(errno.ENOLCK, "it could not be locked", str(file))

    @classmethod
    def claim(cls, file: Path) -> Journal | None:
        """Return the journal of a dead process; nothing if that lives, or if another process was faster."""
        try:
            if sys.platform == "win32" and time.time() - file.stat().st_mtime < STALE_SECONDS:
                return None
            descriptor = os.open(file, FLAGS)
        except OSError:
            return None
        if is_locked(descriptor, file):
            return cls(file, descriptor, FOLDER_BYTES)
        os.close(descriptor)
        return None

    def append(self, text: str) -> int | None:
        """Append an item on one line; return its offset, or nothing if the disk did not take it."""
        data = WAITING + text.encode() + b"\n"
        with self._lock:
            if self._descriptor is None:
                return None
            if self._size + len(data) > self._limit:
                self.error = self.error or f"{self.file.parent} has {FOLDER_BYTES >> 20} MiB, and takes no more"
                return None
            if self._is_torn:
                data = b"\n" + data
            if not self._append(data) and not self._append_in_place_of_last(data):
                return None
            offset = self._size + (1 if self._is_torn else 0)
            self._size += len(data)
            self._is_torn = False
            self.waiting.add(offset)
            return offset

    def append_or_hold(self, text: str) -> int:
        """Append an item; without room on the disk, let it wait in memory alone, at an offset that is no place."""
        offset = self.append(text)
        if offset is None:
            offset = -1 - len(self.waiting)
            self.waiting.add(offset)
        return offset

    def acknowledge(self, offset: int | None) -> None:
        """Cross off the item at `offset`: it needs sending no more."""
        if offset is not None:
            with self._lock:
                self.waiting.discard(offset)
                if offset >= 0:
                    self._write(offset, SENT)

    def erase(self, offset: int) -> None:
        """Blank the line at `offset`: the item is another journal's now."""
        length = len(self._line(offset).rstrip(b"\n"))
        with self._lock:
            self.waiting.discard(offset)
            self._write(offset, b" " * length)

    def read(self) -> Iterator[Line]:
        """Yield the lines of the file; from the last one on, `waiting` is what it has left to send."""
        waiting = set()
        for line in read_lines(self.file):
            if line.is_waiting:
                waiting.add(line.offset)
            yield line
        self.waiting = waiting

    def text(self, offset: int) -> str:
        """Return the item at `offset`, blank if it is torn."""
        raw = self._line(offset)
        return raw.decode().strip() if _content(raw) else ""

    def close(self, *, keep_as_last: bool = False) -> None:
        """Let go of the file; with `keep_as_last` it becomes `LAST` if all that was appended has been acknowledged."""
        with self._lock:
            if self._descriptor is None:
                return
            os.close(self._descriptor)
            self._descriptor = None
            if keep_as_last and not self.waiting:
                with suppress(OSError):
                    self.file.replace(self.file.with_name(LAST_JOURNAL))

    def settle(self) -> None:
        """Let go of the file, and delete it if nothing in it waits."""
        if self.waiting:
            self.close()
        else:
            self.remove()

    def remove(self) -> None:
        """Delete the file, and let go of it."""
        with suppress(OSError):
            self.file.unlink()
        self.close()

    def _line(self, offset: int) -> bytes:
        with self.file.open("rb") as stream:
            stream.seek(offset)
            return stream.readline()

    def _append(self, data: bytes) -> bool:
        """Write `data` at the end, all of it or nothing."""
        if self._write(self._size, data) == len(data):
            return True
        with suppress(OSError):
            if self._descriptor is not None:
                os.ftruncate(self._descriptor, self._size)
        return False

    def _append_in_place_of_last(self, data: bytes) -> bool:
        """Make room on a full disk by deleting `LAST`, which is only there to be looked at, and append."""
        try:
            self.file.with_name(LAST_JOURNAL).unlink()
        except OSError:
            return False
        error, self.error = self.error, ""
        if self._append(data):
            return True
        self.error = error
        return False

    def _write(self, offset: int, data: bytes) -> int:
        """Write `data` at `offset`; return how many bytes the disk has taken."""
        if self._descriptor is None:
            return 0
        try:
            os.lseek(self._descriptor, offset, os.SEEK_SET)
            written = os.write(self._descriptor, data)
        except OSError as error:
            self.error = self.error or f"{self.file}: {error.strerror}"
            return 0
        if written < len(data):
            self.error = self.error or f"{self.file}: {os.strerror(errno.ENOSPC)}"
        return written


def journals(folder: Path) -> list[Path]:
    """Return the journals of living and dead processes, oldest first."""
    created = {}
    for file in folder.glob("[!.]*.ndjson"):
        with suppress(OSError):  # deleted meanwhile
            if file.name != LAST_JOURNAL:
                # Of its name, since crossing off changes the time of the file.
                _, _, at = file.stem.rpartition("-")[0].rpartition("-")
                created[file] = int(at) if at.isdecimal() else file.stat().st_mtime_ns
    return sorted(created, key=lambda file: (created[file], file))


def claimed(folder: Path) -> Iterator[Journal]:
    """Yield the journals of dead processes, oldest first, locked for this process."""
    for file in journals(folder):
        if journal := Journal.claim(file):
            yield journal


def read_lines(file: Path) -> Iterator[Line]:
    """Yield the lines of a file."""
    offset = 0
    with file.open("rb") as stream:
        for raw in stream:
            if raw.strip():
                yield Line(offset, _content(raw), not raw.startswith(SENT))
            offset += len(raw)


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:  # deleted meanwhile
        return 0


def _content(raw: bytes) -> Mapping[str, Any] | None:
    try:
        content = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None
