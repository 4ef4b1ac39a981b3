"""The journal of lineage events: what is on disk when a process ends, and what the next one makes of it."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from openlineage.client import OpenLineageClient
from openlineage.client.event_v2 import Job, Run, RunEvent, RunState
from pipeline.floe import journal as module
from pipeline.floe.journal import LAST, Journal, journals
from pipeline.floe.lineage.outbox import Outbox, replay, unsent

from tests.faults.server import Fault, faulty
from tests.receiver import Receiver, receiver

RUN = "0192f0b5-0a2f-7f4d-9a5e-{:012d}"


def event(number: int, state: RunState = RunState.START) -> RunEvent:
    """Return an event of a run of its own."""
    at = "2026-11-23T04:00:00+00:00"
    return RunEvent(eventTime=at, eventType=state, run=Run(RUN.format(number)), job=Job("shop", f"job{number}"))


def client(url: str, **more: Any) -> OpenLineageClient:
    """Return what sends to `url`."""
    transport = {"type": "http", "url": url, "timeout": 2, "retry": {"total": 0}}
    return OpenLineageClient(config={"transport": transport, **more})


def soon() -> float:
    """Return a deadline that a healthy receiver never needs."""
    return time.monotonic() + 10


def told(server: Receiver) -> list[tuple[str, str]]:
    """Return what has arrived: job and state, in order."""
    return [(each["job"]["name"], each["eventType"]) for each in server.events]


def dead(folder: Path, *events: RunEvent, run: str = "a-run") -> Path:
    """Leave a journal as a process leaves it whose receiver was dead, and that was killed."""
    box = Outbox(client("http://127.0.0.1:1"), folder, run)
    for each in events:
        box.put(each)
    box._delivery.close(soon())
    assert box._journal is not None
    box._journal.close()
    file: Path = journals(folder)[-1]
    return file


class TestRun:
    """One run after another."""

    def test_healthy(self, tmp_path: Path) -> None:
        """Everything arrives as it was kept; one file is left to look at, and nothing to send."""
        with receiver() as server:
            box = Outbox(client(server.url), tmp_path, "a-run")
            box.put(event(1))
            box.put(event(1, RunState.COMPLETE))
            counts = box.close(soon())

        assert [("job1", "START"), ("job1", "COMPLETE")] == told(server)
        assert (2, 0, "") == (counts.sent, counts.spooled, counts.disk_error)
        assert [tmp_path / LAST] == list(tmp_path.iterdir())
        kept = [line.content for line in module.read_lines(tmp_path / LAST)]
        assert server.events == kept

    def test_next_run(self, tmp_path: Path) -> None:
        """What a dead receiver did not take arrives with the next run, once, and the run after has nothing to do."""
        dead(tmp_path, event(1), event(1, RunState.COMPLETE))
        with receiver() as server:
            counts = Outbox(client(server.url), tmp_path, "next").close(soon())
            again = Outbox(client(server.url), tmp_path, "after").close(soon())

        assert [("job1", "START"), ("job1", "COMPLETE")] == told(server)
        assert (2, 0) == (counts.replayed, again.replayed)
        assert [] == journals(tmp_path)

    def test_owner_only(self, tmp_path: Path) -> None:
        """Only its owner can read it."""
        file = dead(tmp_path / "new" / "lineage", event(1))

        assert (0o600, 0o700) == (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777)

    def test_partly_sent(self, tmp_path: Path) -> None:
        """Of a file that was sent in part, only the rest is sent: exactly once in all."""
        with faulty() as server:
            box = Outbox(client(server.url), tmp_path, "a-run")
            box.put(event(1))
            while not server.events:
                time.sleep(0.01)
            time.sleep(0.1)
            server.go_wrong(Fault.REFUSE)
            box.put(event(1, RunState.COMPLETE))
            counts = box.close(soon())
            server.go_wrong(Fault.NONE)
            replay(client(server.url).transport, tmp_path, soon())

        assert (1, 1) == (counts.sent, counts.spooled)
        assert [("job1", "START"), ("job1", "COMPLETE")] == told(server)

    def test_two_at_once(self, tmp_path: Path) -> None:
        """A journal whose process lives is nobody else's, even if it is behind."""
        with receiver() as server:
            box = Outbox(client("http://127.0.0.1:1"), tmp_path, "one")
            box.put(event(1))
            counts = Outbox(client(server.url), tmp_path, "two").close(soon())
            box.put(event(1, RunState.COMPLETE))
            box.close(soon())

        assert ([], 0) == (server.events, counts.replayed)

    def test_one_of_two(self, tmp_path: Path) -> None:
        """Of two that would replay a file, one does."""
        file = dead(tmp_path, event(1))
        first = Journal.claim(file)

        assert first is not None
        assert Journal.claim(file) is None
        first.remove()
        assert Journal.claim(file) is None


class TestOpenRuns:
    """Runs that a dead process has left without an end."""

    def test_ended(self, tmp_path: Path) -> None:
        """Each gets one ABORT that says why, at the last sign of life; one that has ended gets none."""
        file = dead(tmp_path, event(1), event(2), event(2, RunState.FAIL))
        os.utime(file, (1_800_000_000, 1_800_000_000))
        with receiver() as server:
            replay(client(server.url).transport, tmp_path, soon())
            replay(client(server.url).transport, tmp_path, soon())

        assert [("job1", "START"), ("job2", "START"), ("job2", "FAIL"), ("job1", "ABORT")] == told(server)
        end = server.events[-1]
        assert (RUN.format(1), "2027-01-15T08:00:00+00:00") == (end["run"]["runId"], end["eventTime"])
        assert "without a word" in end["run"]["facets"]["errorMessage"]["message"]

    def test_untold(self, tmp_path: Path) -> None:
        """What began and was never ended, by a fault of ours, is ended with the step; a filtered job sends nothing."""
        filtered = {"filters": [{"type": "exact", "match": "job2"}]}
        with receiver() as server:
            box = Outbox(client(server.url, **filtered), tmp_path, RUN.format(3))
            for number in (1, 2, 3):
                box.put(event(number))
            box.close(soon())

        assert [("job1", "START"), ("job3", "START"), ("job1", "ABORT")] == told(server)

    def test_clock_went_back(self, tmp_path: Path) -> None:
        """An end is never before its start."""
        os.utime(dead(tmp_path, event(1)), (0, 0))
        with receiver() as server:
            replay(client(server.url).transport, tmp_path, soon())

        assert ["2026-11-23T04:00:00+00:00"] * 2 == [each["eventTime"] for each in server.events]

    def test_interrupted_replay(self, tmp_path: Path) -> None:
        """A replay that dies between two events is taken up where it stopped."""
        dead(tmp_path, event(1), event(2))
        for _ in range(3):
            backlog = unsent(tmp_path)
            entry = next(backlog)
            entry.journal.acknowledge(entry.offset)
            del backlog

        with receiver() as server:
            replay(client(server.url).transport, tmp_path, soon())

        assert 1 == len(server.events)
        assert [] == journals(tmp_path)

    def test_other_attempt(self, tmp_path: Path) -> None:
        """The Dagster run goes on in the next attempt, which ends it; or whoever finds that one dead."""
        run = RUN.format(1)
        dead(tmp_path, event(1), event(2), run=run)
        with receiver() as server:
            box = Outbox(client(server.url), tmp_path, run)
            while len(server.events) < 3:
                time.sleep(0.01)
            assert [("job1", "START"), ("job2", "START"), ("job2", "ABORT")] == told(server)
            assert box._journal is not None
            box._journal.close()  # as its process would, if it were killed
            replay(client(server.url).transport, tmp_path, soon())
            box.close(soon())

        assert [("job1", "ABORT")] == told(server)[3:]

    @pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM])
    def test_killed(self, tmp_path: Path, sign: signal.Signals) -> None:
        """A process that is killed while its receiver hangs loses nothing that it has told."""
        code = f"""
import sys, time
from tests.floe.test_journal import *
box = Outbox(client("http://127.0.0.1:1"), Path({str(tmp_path)!r}), "a-run")
for number in range(50):
    box.put(event(number))
print("told", flush=True)
time.sleep(60)
"""
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        process = subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert b"told\n" == process.stdout.readline()
        process.send_signal(sign)
        process.wait()
        process.stdout.close()
        with receiver() as server:
            counts = replay(client(server.url).transport, tmp_path, soon())

        assert 100 == counts.replayed
        assert {f"job{number}" for number in range(50)} == {job for job, state in told(server) if state == "ABORT"}


class TestDisk:
    """What the disk may do."""

    def test_torn_line(self, tmp_path: Path) -> None:
        """A line that is no event costs itself only, and is counted once."""
        file = dead(tmp_path, event(1), event(1, RunState.COMPLETE))
        first, rest = file.read_text().split("\n", 1)
        garbage = ('{"eventTime": "2026', "\x00\xff", "[1]", "[" * 5_000)
        file.write_text("\n".join([first, *garbage, rest + '{"sent": ']))
        with receiver() as server:
            counts = replay(client(server.url).transport, tmp_path, soon())

        assert [("job1", "START"), ("job1", "COMPLETE")] == told(server)
        assert (2, 5) == (counts.replayed, counts.dropped)
        assert [] == journals(tmp_path)

    def test_limit(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """All files together take no more than their size; what finds no room is sent or dropped, and counted."""
        monkeypatch.setattr(module, "FOLDER_BYTES", 2_000)
        ends = [event(number, RunState.COMPLETE) for number in range(10)]
        dead(tmp_path, *ends[:4])
        box = Outbox(client("http://127.0.0.1:1"), tmp_path, "a-run")
        for each in ends:
            box.put(each)
        counts = box.close(soon())

        assert counts.spooled + counts.dropped == 10
        assert counts.dropped > 0
        assert "takes no more" in counts.reason
        assert 2_000 > sum(file.stat().st_size for file in journals(tmp_path))

    @pytest.mark.parametrize("healthy", [True, False])
    def test_no_disk(self, tmp_path: Path, healthy: bool) -> None:
        """Without a disk events are sent all the same; what cannot be sent either is dropped, and counted."""
        (tmp_path / "file").write_text("")
        with receiver() as server:
            box = Outbox(client(server.url if healthy else "http://127.0.0.1:1"), tmp_path / "file" / "x", "a-run")
            box.put(event(1, RunState.COMPLETE))
            counts = box.close(soon())

        assert ((1, 0) if healthy else (0, 1)) == (counts.sent, counts.dropped)
        assert counts.is_bad
        assert "NotADirectoryError" in counts.reason

    @pytest.mark.parametrize("room", [0, 100, 700])
    def test_full(self, tmp_path: Path, room: int) -> None:
        """A disk that fills up tears one line at most; what it took before and after arrives."""
        (tmp_path / "file").write_text("")
        with receiver() as server:
            box = Outbox(client("http://127.0.0.1:1"), tmp_path, "a-run")
            with no_larger_than(room):
                box.put(event(1, RunState.COMPLETE))
                box.put(event(2, RunState.COMPLETE))
            box.put(event(3, RunState.COMPLETE))
            counts = box.close(soon())
            replay(client(server.url).transport, tmp_path, soon())

        assert counts.spooled + counts.dropped == 3
        assert counts.dropped == {0: 2, 100: 2, 700: 1}[room]
        assert ("job3", "COMPLETE") in told(server)
        assert counts.disk_error


@contextmanager
def no_larger_than(size: int) -> Iterator[None]:
    """Let this process write no file beyond `size` bytes: it ends as a full disk does."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


class TestTransports:
    """The transports that are not HTTP get events as objects."""

    def test_rebuilt(self) -> None:
        """An event is the same as object and as text, whatever its facets."""
        from openlineage.client.serde import Serde
        from pipeline.floe.lineage.transports import run_event

        from tests.lineage.replay import replay as recorded

        for each in recorded("duckdb"):
            assert each == json.loads(Serde.to_json(run_event(json.dumps(each))))

    def test_file(self, tmp_path: Path) -> None:
        """A transport of the owner's choice takes them."""
        log = tmp_path / "events.log"
        config: dict[str, Any] = {"transport": {"type": "file", "log_file_path": str(log), "append": True}}
        box = Outbox(OpenLineageClient(config=config), tmp_path / "state", "a-run")
        box.put(event(1, RunState.COMPLETE))
        counts = box.close(soon())

        assert 1 == counts.sent
        assert "job1" == json.loads(log.read_text())["job"]["name"]
