"""Tests of journals and replays that several hosts share; another host is simulated by its id."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from openlineage.client.event_v2 import RunState
from pipeline.floe.cli.doctor.off import count_waiting
from pipeline.floe.delivery import liveness, state_folder
from pipeline.floe.delivery.journal import Journal, journals
from pipeline.floe.delivery.limits import STALE_SECONDS
from pipeline.floe.delivery.state_folder import LEASE, folder_lock
from pipeline.floe.lineage.outbox import Outbox, replay

from tests.floe.test_journal import client, dead, event, soon, told
from tools.receiver import receiver


@contextmanager
def host(monkeypatch: pytest.MonkeyPatch, name: str) -> Iterator[None]:
    """Be another host inside this block; all but the first, `a`, do not see the locks of others, as on some volumes."""
    with monkeypatch.context() as patch:
        patch.setattr(liveness, "host_id", lambda: f"{name:0>12}")
        if name != "a":
            patch.setattr(fcntl, "flock", lambda *_: None)
        yield


def age(file: Path, seconds: float) -> float:
    """Set back the time at which a file was touched last, and return it."""
    at = time.time() - seconds
    os.utime(file, (at, at))
    return at


class TestJournal:
    """Tests of claiming the journal of another host."""

    def test_alive(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A journal that was touched lately belongs to a living process, whatever the local lock says."""
        with host(monkeypatch, "a"):
            dead(tmp_path, event(1))
        (file,) = journals(tmp_path)
        age(file, STALE_SECONDS - 10)

        with host(monkeypatch, "b"):
            assert Journal.claim(file) is None
        assert [file] == journals(tmp_path)

    def test_dead(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A stale one can be claimed by one host only; its open run ends when its process was last alive."""
        with host(monkeypatch, "a"):
            dead(tmp_path, event(1))
        (file,) = journals(tmp_path)
        at = age(file, STALE_SECONDS + 10)

        with host(monkeypatch, "b"):
            first = Journal.claim(file)
        with host(monkeypatch, "c"):
            assert Journal.claim(file) is None
            assert [None] == [Journal.claim(renamed) for renamed in journals(tmp_path)]

        assert first is not None
        assert at == pytest.approx(first.last_beat, abs=0.01)
        assert ("a-run", 1) == (first.file.name[:5], len(list(first.read())))
        first.close()

    def test_stands_still(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A host that stands still for a while ends its run itself, if Dagster says that the run goes on."""
        goes_on = "a-run".__eq__  # also for the thread of the first host, which is the second one for a while here
        with receiver() as server:
            with host(monkeypatch, "a"):
                box = Outbox(client(server.url), tmp_path, "a-run", goes_on)
                box.put(event(1))
            (file,) = journals(tmp_path)
            age(file, STALE_SECONDS + 10)
            with host(monkeypatch, "b"):
                Outbox(client(server.url), tmp_path, "b-run", goes_on).close(soon())
            with host(monkeypatch, "a"):
                box.put(event(1, RunState.COMPLETE))
                box.close(soon())

        assert [("job1", "START"), ("job1", "COMPLETE")] == told(server)

    def test_given_up(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The next run on another host leaves a lost run alone until Dagster has given it up, and then ends it."""
        with host(monkeypatch, "a"):
            dead(tmp_path, event(1))
        (file,) = journals(tmp_path)
        age(file, STALE_SECONDS + 10)
        with receiver() as server, host(monkeypatch, "b"):
            Outbox(client(server.url), tmp_path, "b-run", lambda run_id: run_id == "a-run").close(soon())
            assert ([], [file]) == (told(server), journals(tmp_path))
            Outbox(client(server.url), tmp_path, "c-run", lambda _: False).close(soon())

        assert [("job1", "START"), ("job1", "ABORT")] == told(server)

    @pytest.mark.parametrize("name", ["a", "b"])
    def test_looked_at(self, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The doctor counts what waits, and changes neither when the process died nor who may send it."""
        with host(monkeypatch, "a"):
            dead(tmp_path, event(1))
        (file,) = journals(tmp_path)
        at = age(file, 500)

        with host(monkeypatch, name):
            assert 1 == count_waiting(tmp_path)[0]
        assert at == pytest.approx(file.stat().st_mtime, abs=0.01)

    def test_other_clock(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The clock of a host does not matter, only that of the volume."""
        with host(monkeypatch, "a"):
            dead(tmp_path, event(1))
        (file,) = journals(tmp_path)

        with host(monkeypatch, "b"):
            now = time.time()
            monkeypatch.setattr(time, "time", lambda: now + 10_000)
            assert Journal.claim(file) is None

    def test_no_locks(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """On a volume without locks there are journals as well, and the touch alone decides."""

        def refuse(*_: Any) -> None:
            raise OSError(errno.ENOTSUP, "not supported")

        monkeypatch.setattr(fcntl, "flock", refuse)
        dead(tmp_path, event(1))
        (file,) = journals(tmp_path)
        assert Journal.claim(file) is None
        age(file, STALE_SECONDS + 10)
        with receiver() as server:
            replay(client(server.url).transport, tmp_path, soon())

        assert [("job1", "START"), ("job1", "ABORT")] == told(server)

    def test_replay(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Of two hosts, the first sends the events of a third, and the second finds nothing to send."""
        with host(monkeypatch, "a"):
            dead(tmp_path, event(1))
        age(journals(tmp_path)[0], STALE_SECONDS + 10)
        with receiver() as server:
            for name in ("b", "c"):
                with host(monkeypatch, name):
                    replay(client(server.url).transport, tmp_path, soon())

        assert [("job1", "START"), ("job1", "ABORT")] == told(server)
        assert [] == journals(tmp_path)


class TestHeartbeat:
    """Tests of the thread that touches files."""

    def test_touches(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A journal is touched while it is open; the thread ends with the last one."""
        monkeypatch.setattr(liveness, "BEAT_SECONDS", 0.05)
        beating = liveness.Heartbeat()
        file = tmp_path / "file"
        file.touch()
        beating.add(file)
        age(file, 1_000)
        wait_until(lambda: time.time() - file.stat().st_mtime < 10)
        threads = [thread for thread in threading.enumerate() if thread.name == "journal-heartbeat"]
        beating.remove(file)

        assert threads
        wait_until(lambda: beating._thread is None)


class TestLease:
    """Tests of the lock of a folder between hosts."""

    def test_held(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """While a host holds it, another one does not get it; afterwards it does."""
        with (
            host(monkeypatch, "a"),
            folder_lock(tmp_path) as first,
            host(monkeypatch, "b"),
            folder_lock(tmp_path, time.monotonic() + 0.1) as second,
        ):
            assert (True, False) == (first, second)
        with host(monkeypatch, "b"), folder_lock(tmp_path) as third:
            assert third
        assert [] == list(tmp_path.iterdir())

    def test_lost(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A lease that its host no longer touches is broken."""
        lease = tmp_path / LEASE
        with host(monkeypatch, "a"):
            lease.write_text(liveness.own_token())
        age(lease, STALE_SECONDS + 10)
        with host(monkeypatch, "b"), folder_lock(tmp_path) as is_held:
            assert is_held
            assert lease.read_text() != ""
        assert not lease.exists()

    def test_killed(self, tmp_path: Path) -> None:
        """A lease of a dead process of the same host is broken at once."""
        (tmp_path / LEASE).write_text(liveness.own_token())
        with folder_lock(tmp_path) as is_held:
            assert is_held

    def test_replaced(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A lease that another host has created in the meantime stays, although the former one was stale."""
        lease = tmp_path / LEASE
        lease.write_text("0" * 20)
        age(lease, STALE_SECONDS + 10)

        def stale_and_replaced(*_: Any) -> bool:
            lease.unlink()
            lease.write_text("1" * 20)
            return True

        monkeypatch.setattr(state_folder, "is_stale", stale_and_replaced)
        assert state_folder._break_lease(lease, alone_on_host=True)
        assert "1" * 20 == lease.read_text()


def wait_until(condition: Callable[[], object]) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
