"""The journal: items written to disk before they are sent, so that a killed process loses none.

A journal is a file of JSON lines, one per item. A line begins with a space while the item is waiting, and with a tab
once it no longer needs sending. Both are blank in JSON, and acknowledging a line needs no space on a full disk. A
process locks its journal and touches it as long as it lives: see `liveness.py`. Whoever claims the journal of a dead
process sends the rest. Each item is one call of `write` without fsync: the lines of a killed process survive, but a
power cut may lose some.
"""

from __future__ import annotations

import errno
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from .limits import FOLDER_BYTES
from .liveness import heartbeat, is_of_other_host, is_stale, own_token
from .state_folder import Lock, make_state_folder, try_lock

# The last journal whose items have all been sent or refused, kept for inspection.
LAST_JOURNAL = "last.ndjson"
WAITING, SENT = b" ", b"\t"
FLAGS = os.O_RDWR | getattr(os, "O_BINARY", 0)


def none_runs(_: str) -> bool:
    """Say of each Dagster run that it is over, without asking Dagster: a host that stands still counts as lost."""
    return False


def all_run(_: str) -> bool:
    """Say of each Dagster run that it goes on, without asking Dagster: the journals of other hosts are left alone."""
    return True


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a journal; `content` is None if a crash or a full disk has torn it, so that it is not a JSON object."""

    offset: int
    content: Mapping[str, Any] | None
    is_waiting: bool


class Journal:
    """A journal that this process has locked; its methods may be called from any thread.

    Attributes:
        file: The file.
        error: The first error of the disk, which none of the methods raises.
        waiting: Offsets of the items that are not acknowledged.
        last_beat: The time of the volume when its process was last known to be alive, in seconds.
    """

    def __init__(self, file: Path, descriptor: int, room: int) -> None:
        """Use a locked file, to which at most `room` bytes may be appended."""
        self.file = file
        self.error = ""
        self.waiting: set[int] = set()
        self._descriptor: int | None = descriptor
        status = os.fstat(descriptor)
        self.last_beat = status.st_mtime
        self._size = status.st_size
        self._is_changed = self._size == 0
        self._limit = self._size + room
        self._is_torn = self._size > 0  # a dead process may have torn its last line
        self._lock = threading.Lock()
        heartbeat.add(file)

    @classmethod
    def create(cls, folder: Path, name: str) -> Journal:
        """Create a journal in `folder`, readable only by its owner.

        Raises:
            OSError: The file cannot be created or locked.
        """
        make_state_folder(folder)
        room = FOLDER_BYTES - sum(map(_size, journals(folder)))
        file = folder / f"{name}-{time.time_ns()}-{own_token()}.ndjson"
        descriptor = os.open(file, FLAGS | os.O_CREAT | os.O_EXCL, 0o600)
        if try_lock(descriptor, file) is not Lock.REFUSED:
            return cls(file, descriptor, room)
        # Another process took it for a dead one's just before it was locked.
        os.close(descriptor)
        raise OSError(errno.ENOLCK, "the journal could not be locked", str(file))

    @classmethod
    def claim(cls, file: Path, is_running: Callable[[str], bool] = none_runs) -> Journal | None:
        """Return the journal of a dead process; None if that process is alive or another one has claimed it.

        A host that only stands still looks dead to others. So `is_running` says of the name under which another host
        has created a journal, such as the id of its Dagster run, whether its process may still be alive.
        """
        try:
            descriptor = os.open(file, FLAGS)
        except OSError:
            return None
        claimed = None
        try:
            lock = try_lock(descriptor, file)
            is_foreign = is_of_other_host(_token(file))
            # Within a host, the lock is enough. Between hosts, the journal must be stale, and only one can rename it.
            is_certain = lock is Lock.HELD and not is_foreign
            is_dead = is_certain or is_stale(descriptor, file.parent)
            if lock is not Lock.REFUSED and is_dead and not (is_foreign and is_running(_name(file))):
                claimed = file.rename(_renamed(file)) if is_foreign else file
                return cls(claimed, descriptor, FOLDER_BYTES)
        except OSError:  # another host was faster
            return None
        finally:
            if claimed is None:
                os.close(descriptor)
        return None

    def append(self, text: str) -> int | None:
        """Append an item on one line; return its offset, or None if it could not be written."""
        return next(iter(self.append_all([text])), None)

    def append_all(self, texts: Sequence[str]) -> list[int]:
        """Append items, one per line, with one call of `write`; return their offsets, or none if they did not fit."""
        lines = [WAITING + text.encode() + b"\n" for text in texts]
        with self._lock:
            if self._descriptor is None:
                return []
            start = b"\n" if self._is_torn else b""
            data = start + b"".join(lines)
            if self._size + len(data) > self._limit:
                self.error = self.error or f"{self.file.parent} has reached its limit of {FOLDER_BYTES >> 20} MiB"
                return []
            if not self._append(data) and not self._append_in_place_of_last(data):
                return []
            lengths = (len(part) for part in (start, *lines[:-1]))
            offsets = list(accumulate(lengths, initial=self._size))[1:]
            self._size += len(data)
            self._is_torn = False
            self.waiting.update(offsets)
            return offsets

    def append_or_hold(self, text: str) -> int:
        """Append an item; if the disk has no room, keep it waiting only in memory, at a negative offset."""
        offset = self.append(text)
        if offset is None:
            offset = -1 - len(self.waiting)
            self.waiting.add(offset)
        return offset

    def acknowledge(self, offset: int | None) -> None:
        """Mark the item at `offset` as no longer waiting."""
        if offset is not None:
            with self._lock:
                self.waiting.discard(offset)
                if offset >= 0:
                    self._write(offset, SENT)

    def erase(self, offset: int) -> None:
        """Blank the line at `offset`, whose item another journal holds now."""
        length = len(self._line(offset).rstrip(b"\n"))
        with self._lock:
            self.waiting.discard(offset)
            self._write(offset, b" " * length)

    def read(self) -> Iterator[Line]:
        """Yield the lines of the file; after the last one, set `waiting` to the items that are left to send."""
        waiting = set()
        for line in read_lines(self.file):
            if line.is_waiting:
                waiting.add(line.offset)
            yield line
        self.waiting = waiting

    def text(self, offset: int) -> str:
        """Return the item at `offset`, or an empty string if its line is torn."""
        raw = self._line(offset)
        return raw.decode().strip() if _content(raw) else ""

    def close(self, *, keep_as_last: bool = False, continues_last: bool = False) -> None:
        """Release the file; with `keep_as_last`, rename it to `LAST_JOURNAL` if no item is waiting.

        If it continues that one, append it there instead.
        """
        with self._lock:
            if self._descriptor is None:
                return
            heartbeat.remove(self.file)
            if not self._is_changed:  # only looked at: its process is as dead as before
                with suppress(OSError):
                    os.utime(self.file, (self.last_beat, self.last_beat))
            os.close(self._descriptor)
            self._descriptor = None
            if keep_as_last and not self.waiting:
                with suppress(OSError):
                    last = self.file.with_name(LAST_JOURNAL)
                    if continues_last and _size(last) + self._size <= FOLDER_BYTES:
                        with last.open("ab") as stream:
                            stream.write(self.file.read_bytes())
                        self.file.unlink()
                    else:
                        self.file.replace(last)

    def settle(self) -> None:
        """Release the file, and delete it if no item is waiting."""
        if self.waiting:
            self.close()
        else:
            self.remove()

    def remove(self) -> None:
        """Delete the file and release it."""
        with suppress(OSError):
            self.file.unlink()
        self.close()

    def _line(self, offset: int) -> bytes:
        with self.file.open("rb") as stream:
            stream.seek(offset)
            return stream.readline()

    def _append(self, data: bytes) -> bool:
        """Write `data` at the end, either all of it or none."""
        if self._write(self._size, data) == len(data):
            return True
        with suppress(OSError):
            if self._descriptor is not None:
                os.ftruncate(self._descriptor, self._size)
        return False

    def _append_in_place_of_last(self, data: bytes) -> bool:
        """Append after making room on a full disk: delete `LAST_JOURNAL`, which is only kept for inspection."""
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
        """Write `data` at `offset`; return the number of bytes written."""
        if self._descriptor is None:
            return 0
        try:
            self._is_changed = True
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
        with suppress(OSError):  # deleted in the meantime
            if file.name != LAST_JOURNAL:
                # Read from the name, because acknowledging an item changes the file's own time.
                _, _, at = file.stem.rpartition("-")[0].rpartition("-")
                created[file] = int(at) if at.isdecimal() else file.stat().st_mtime_ns
    return sorted(created, key=lambda file: (created[file], file))


def claimed(folder: Path, is_running: Callable[[str], bool] = none_runs) -> Iterator[Journal]:
    """Yield the journals of dead processes, oldest first, locked for this process; `is_running` is that of `claim`."""
    for file in journals(folder):
        if journal := Journal.claim(file, is_running):
            yield journal


def is_left_by_other_host(file: Path) -> bool:
    """Return whether another host has created a journal and not touched it for so long that it may be lost."""
    if not is_of_other_host(_token(file)):
        return False
    try:
        descriptor = os.open(file, os.O_RDONLY)
    except OSError:
        return False
    try:
        return is_stale(descriptor, file.parent)
    except OSError:
        return False
    finally:
        os.close(descriptor)


def read_lines(file: Path) -> Iterator[Line]:
    """Yield the lines of a file."""
    offset = 0
    with file.open("rb") as stream:
        for raw in stream:
            if raw.strip():
                yield Line(offset, _content(raw), not raw.startswith(SENT))
            offset += len(raw)


def _name(file: Path) -> str:
    """Return the name under which a journal was created."""
    return file.stem.rsplit("-", 2)[0]


def _token(file: Path) -> str:
    """Return the token of the process that has created or claimed a journal."""
    return file.stem.rpartition("-")[2]


def _renamed(file: Path) -> Path:
    """Return the path of a journal after this process has claimed it."""
    return file.with_name(f"{file.stem.rpartition('-')[0]}-{own_token()}{file.suffix}")


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:  # deleted in the meantime
        return 0


def _content(raw: bytes) -> Mapping[str, Any] | None:
    try:
        content = json.loads(raw.decode())
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None
