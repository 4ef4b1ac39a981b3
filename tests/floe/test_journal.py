"""Tests of the journal of lineage events: its content at the end of a process, and its use by the next one."""

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
from pipeline.floe.delivery import journal as module
from pipeline.floe.delivery.journal import LAST_JOURNAL, Journal, journals
from pipeline.floe.delivery.state_folder import folder_lock
from pipeline.floe.lineage import backlog as backlog_module
from pipeline.floe.lineage.backlog import unsent
from pipeline.floe.lineage.columns.cache import ColumnCache as Cache
from pipeline.floe.lineage.outbox import Outbox, replay
from pipeline.floe.tracing.spool import SpanSpool

from tests.faults.drive import fill, full_volume
from tests.faults.server import Fault, faulty
from tools.receiver import Receiver, receiver

RUN = "0192f0b5-0a2f-7f4d-9a5e-{:012d}"


def event(number: int, state: RunState = RunState.START, job: str = "") -> RunEvent:
    """Return an event of a separate run."""
    at, name = "2026-11-23T04:00:00+00:00", job or f"job{number}"
    return RunEvent(eventTime=at, eventType=state, run=Run(RUN.format(number)), job=Job("shop", name))


def client(url: str, **more: Any) -> OpenLineageClient:
    """Return a client that sends to `url`."""
    transport = {"type": "http", "url": url, "timeout": 2, "retry": {"total": 0}}
    return OpenLineageClient(config={"transport": transport, **more})


def soon() -> float:
    """Return a deadline that a healthy receiver never needs."""
    return time.monotonic() + 10


def told(server: Receiver) -> list[tuple[str, str]]:
    """Return the job and state of the received events, in order."""
    return [(each["job"]["name"], each["eventType"]) for each in server.events]


def in_order(server: Receiver) -> bool:
    """Return whether each run was received as START, then COMPLETE."""
    jobs = {job for job, _ in told(server)}
    return all(["START", "COMPLETE"] == [state for job, state in told(server) if job == name] for name in jobs)


def dead(folder: Path, *events: RunEvent, run: str = "a-run") -> Path:
    """Write a journal like that of a killed process whose receiver was dead."""
    box = Outbox(client("http://127.0.0.1:1"), folder, run)
    for each in events:
        box.put(each)
    box._delivery.close(soon())
    assert box._journal is not None
    box._journal.close()
    file: Path = journals(folder)[-1]
    return file


class TestRun:
    """Tests of one run after another."""

    def test_healthy(self, tmp_path: Path) -> None:
        """Everything arrives as stored; one file is left for inspection, and nothing is left to send."""
        with receiver() as server:
            box = Outbox(client(server.url), tmp_path, "a-run")
            box.put(event(1))
            box.put(event(1, RunState.COMPLETE))
            counts = box.close(soon())

        assert [("job1", "START"), ("job1", "COMPLETE")] == told(server)
        assert (2, 0, "") == (counts.sent, counts.spooled, counts.disk_error)
        assert [tmp_path / LAST_JOURNAL] == list(tmp_path.iterdir())
        kept = [line.content for line in module.read_lines(tmp_path / LAST_JOURNAL)]
        assert server.events == kept

    def test_next_run(self, tmp_path: Path) -> None:
        """Events that a dead receiver missed arrive once, with the next run; the run after has nothing left to send."""
        dead(tmp_path, event(1), event(1, RunState.COMPLETE))
        with receiver() as server:
            counts = Outbox(client(server.url), tmp_path, "next").close(soon())
            again = Outbox(client(server.url), tmp_path, "after").close(soon())

        assert [("job1", "START"), ("job1", "COMPLETE")] == told(server)
        assert (2, 0) == (counts.replayed, again.replayed)
        assert [] == journals(tmp_path)

    def test_ignore_file_of_the_owner(self, tmp_path: Path) -> None:
        """An empty `.gitignore` above the state folder is the owner's, and stays empty."""
        (tmp_path / ".gitignore").touch()
        for name in ("first", "second"):
            Journal.create(tmp_path / "state" / "lineage", name).close()

        assert "" == (tmp_path / ".gitignore").read_text()

    def test_owner_only(self, tmp_path: Path) -> None:
        """Only the owner can read the state folder's files, whichever comes first, and git ignores them."""
        umask = os.umask(0)
        try:
            Cache(tmp_path / "first" / "columns.json").put("model.shop.orders", "key", "value")
            for state in (tmp_path / "first", tmp_path / "second"):
                dead(state / "lineage", event(1))
                SpanSpool(state / "traces").append([])
                columns = Cache(state / "columns.json")
                columns.put("model.shop.orders", "key", "value")
                columns.save()
        finally:
            os.umask(umask)

        for state in (tmp_path / "first", tmp_path / "second"):
            made = [state, *state.rglob("*")]
            assert 6 <= len(made)
            modes = {path.name: path.stat().st_mode & 0o777 for path in made if path.name != ".gitignore"}
            assert {} == {name: oct(mode) for name, mode in modes.items() if mode not in {0o700, 0o600}}
            subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
            status = ["git", "-C", str(tmp_path), "status", "--porcelain", "--untracked-files=all"]
            assert b"" == subprocess.run(status, capture_output=True, check=True).stdout

    def test_folder_of_others(self, tmp_path: Path) -> None:
        """An existing state folder, such as a mounted volume, stays as it is."""
        shared = tmp_path / "shared"
        shared.mkdir(mode=0o755)
        dead(shared / "lineage", event(1))

        assert 0o755 == shared.stat().st_mode & 0o777
        assert ["lineage"] == [path.name for path in shared.iterdir()]

    def test_partly_sent(self, tmp_path: Path) -> None:
        """Of a partly sent journal, only the rest is sent, so that each event is sent exactly once."""
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

    @pytest.mark.parametrize("number", [0, 4, 9])
    @pytest.mark.parametrize("early", [True, False])
    def test_one_failure(self, tmp_path: Path, number: int, early: bool) -> None:
        """One 503 at the start, in the middle or at the end loses nothing, and keeps the order of each run."""
        with faulty() as server:
            server.go_wrong(status=503, only={number}, delay=0.01)
            box = Outbox(client(server.url), tmp_path, "a-run")
            for each in range(5):
                for state in (RunState.START, RunState.COMPLETE):
                    box.put(event(each, state))
            if early:
                time.sleep(0.3)
            counts = box.close(soon())

        assert (10, 0, 0) == (counts.sent, counts.spooled, counts.dropped)
        assert in_order(server)
        assert 10 == len(server.events)

    def test_too_large(self, tmp_path: Path) -> None:
        """An event that is too large for the receiver is dropped and counted; the others arrive, and none is left."""
        with faulty() as server:
            server.go_wrong(status=413, larger_than=1_000)
            box = Outbox(client(server.url), tmp_path, "a-run")
            box.put(event(1, RunState.COMPLETE))
            box.put(event(2, RunState.COMPLETE, job="x" * 1_000))
            box.put(event(3, RunState.COMPLETE))
            counts = box.close(soon())

        assert [("job1", "COMPLETE"), ("job3", "COMPLETE")] == told(server)
        assert (2, 0, 1) == (counts.sent, counts.spooled, counts.dropped)
        assert "413" in counts.reason
        assert [] == journals(tmp_path)

    def test_two_at_once(self, tmp_path: Path) -> None:
        """No other process claims the journal of a living process, even if that is behind."""
        with receiver() as server:
            box = Outbox(client("http://127.0.0.1:1"), tmp_path, "one")
            box.put(event(1))
            counts = Outbox(client(server.url), tmp_path, "two").close(soon())
            box.put(event(1, RunState.COMPLETE))
            box.close(soon())

        assert ([], 0) == (server.events, counts.replayed)

    def test_one_of_two(self, tmp_path: Path) -> None:
        """If two processes try to replay a file, only one does."""
        file = dead(tmp_path, event(1))
        first = Journal.claim(file)

        assert first is not None
        assert Journal.claim(file) is None
        first.remove()
        assert Journal.claim(file) is None


class TestOrder:
    """Tests of the order of a run's events across attempts and processes."""

    @pytest.mark.parametrize("failures", [{0}, {0, 1}, {0, 2, 4}, {1, 3, 5}, {9}])
    def test_replay(self, tmp_path: Path, failures: set[int]) -> None:
        """An event that fails in a replay is sent in the same replay, before the later events of its run."""
        pairs = [event(number, state) for number in range(5) for state in (RunState.START, RunState.COMPLETE)]
        dead(tmp_path, *pairs)
        with faulty() as server:
            server.go_wrong(status=503, only=failures)
            counts = replay(client(server.url).transport, tmp_path, soon())

        assert (10, "") == (counts.replayed, counts.last_error)
        assert in_order(server)
        assert [] == journals(tmp_path)

    @pytest.mark.parametrize("wrong", [{"status": 503}, {"delay": 0.2}])
    def test_incomplete(self, tmp_path: Path, wrong: dict[str, Any]) -> None:
        """A replay that did not send everything gives the reason, even if that is the time limit."""
        dead(tmp_path, *(event(number, RunState.COMPLETE) for number in range(10)))
        with faulty() as server:
            server.go_wrong(**wrong)
            counts = replay(client(server.url).transport, tmp_path, time.monotonic() + 1)

        assert 10 > counts.replayed
        assert counts.last_error

    def test_closed(self, tmp_path: Path) -> None:
        """A closed journal ignores calls."""
        (tmp_path / LAST_JOURNAL).write_text("{}")
        journal = Journal.create(tmp_path, "a-run")
        journal.close()

        assert (None, True) == (journal.append("{}"), (tmp_path / LAST_JOURNAL).exists())

    def test_choking(self, tmp_path: Path) -> None:
        """A start that always fails holds back only the end of its run, in every replay."""
        large = event(1, job="x" * 1_000)
        dead(tmp_path, large, event(1, RunState.COMPLETE), event(2), event(2, RunState.COMPLETE))
        dead(tmp_path, event(3), event(3, RunState.COMPLETE))
        with faulty() as server:
            for _ in range(2):
                server.go_wrong(status=500, larger_than=1_000)
                replay(client(server.url).transport, tmp_path, soon())
                others = [(f"job{number}", state) for number in (2, 3) for state in ("START", "COMPLETE")]
                assert others == told(server)
            server.go_wrong()
            replay(client(server.url).transport, tmp_path, soon())

        assert [("x" * 1_000, "START"), ("job1", "COMPLETE")] == told(server)[4:]
        assert [] == journals(tmp_path)

    def test_two_journals(self, tmp_path: Path) -> None:
        """A start in one journal is sent before its end in a later one, even if the first was changed last."""
        first = dead(tmp_path, event(1), event(2), event(2, RunState.COMPLETE))
        dead(tmp_path, event(1, RunState.COMPLETE))
        os.utime(first, (4_000_000_000, 4_000_000_000))
        with faulty() as server:
            server.go_wrong(status=503, only={0})
            replay(client(server.url).transport, tmp_path, soon())

        states = [state for job, state in told(server) if job == "job1"]
        assert "START" == states[0]
        assert "COMPLETE" in states

    def test_next_attempt(self, tmp_path: Path) -> None:
        """A start that the previous attempt could not send is sent before the end from this attempt."""
        run = RUN.format(1)
        dead(tmp_path, event(1), event(2), event(2, RunState.COMPLETE), run=run)
        with faulty() as server:
            server.go_wrong(status=503, only={0})
            box = Outbox(client(server.url), tmp_path, run)
            box.put(event(1, RunState.COMPLETE))
            box.close(soon())
            replay(client(server.url).transport, tmp_path, soon())

        assert in_order(server)
        assert [("job1", "START"), ("job1", "COMPLETE")] == [each for each in told(server) if each[0] == "job1"]

    def test_ended_by_the_next_attempt(self, tmp_path: Path) -> None:
        """A run that the next attempt ended is not ended again by a later replay of the first attempt's journal."""
        run = RUN.format(1)
        large = event(2, job="x" * 1_000)
        dead(tmp_path, event(1), large, run=run)
        with faulty() as server:
            server.go_wrong(status=500, larger_than=1_000)
            box = Outbox(client(server.url), tmp_path, run)
            box.put(event(1, RunState.COMPLETE))
            box.close(soon())
            server.go_wrong()
            replay(client(server.url).transport, tmp_path, soon())

        assert [("job1", "START"), ("job1", "COMPLETE")] == [each for each in told(server) if each[0] == "job1"]

    def test_end_in_another_journal(self, tmp_path: Path) -> None:
        """A run whose end another process has stored gets no second one."""
        run = RUN.format(1)
        dead(tmp_path, event(1), run=run)
        dead(tmp_path, event(1, RunState.COMPLETE), run=run)
        with receiver() as server:
            replay(client(server.url).transport, tmp_path, soon())

        assert [("job1", "START"), ("job1", "COMPLETE")] == told(server)

    def test_other_process(self, tmp_path: Path) -> None:
        """While another process is about to send a run's start, its end waits on disk for the next run."""
        run = RUN.format(1)
        file = dead(tmp_path, event(1), run=run)
        busy = Journal.claim(file)
        assert busy is not None
        with receiver() as server:
            box = Outbox(client(server.url), tmp_path, run)
            box.put(event(1, RunState.COMPLETE))
            box.put(event(2, RunState.COMPLETE))
            counts = box.close(soon())
            assert ([("job2", "COMPLETE")], 1) == (told(server), counts.spooled)
            busy.close()
            replay(client(server.url).transport, tmp_path, soon())

        assert ("job1", "START") == told(server)[1]
        assert ("job1", "COMPLETE") in told(server)[2:]

    def test_two_replays(self, tmp_path: Path) -> None:
        """Of two simultaneous replays, the second waits for the first, and reports it if that takes too long."""
        dead(tmp_path, event(1), event(1, RunState.COMPLETE))
        backlog = unsent(tmp_path)
        next(backlog)
        dead(tmp_path, event(2, RunState.COMPLETE))
        with receiver() as server:
            counts = replay(client(server.url).transport, tmp_path, time.monotonic() + 0.5)
            assert ([], 0) == (told(server), counts.replayed)
            assert "another process" in counts.last_error
            backlog.close()
            counts = replay(client(server.url).transport, tmp_path, soon())

        assert (3, "") == (counts.replayed, counts.last_error)

    def test_many_journals(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """More journals than the limit for open ones are all replayed."""
        monkeypatch.setattr(backlog_module, "OPEN_JOURNALS", 2)
        for number in range(6):
            dead(tmp_path, event(number), event(number, RunState.COMPLETE))
        with faulty() as server:
            server.go_wrong(status=503, only={0, 2, 4, 6})
            first = replay(client(server.url).transport, tmp_path, soon())
            second = replay(client(server.url).transport, tmp_path, soon())

        assert (10, 2) == (first.replayed, second.replayed)
        assert in_order(server)
        assert 12 == len(server.events)


class TestOpenRuns:
    """Tests of runs that a dead process left open."""

    def test_ended(self, tmp_path: Path) -> None:
        """Each open run gets one ABORT with a reason, at the journal's last write; an ended run gets none."""
        file = dead(tmp_path, event(1), event(2), event(2, RunState.FAIL))
        os.utime(file, (1_800_000_000, 1_800_000_000))
        with receiver() as server:
            replay(client(server.url).transport, tmp_path, soon())
            replay(client(server.url).transport, tmp_path, soon())

        assert [("job1", "START"), ("job2", "START"), ("job2", "FAIL"), ("job1", "ABORT")] == told(server)
        end = server.events[-1]
        assert (RUN.format(1), "2027-01-15T08:00:00+00:00") == (end["run"]["runId"], end["eventTime"])
        assert "without reporting a result" in end["run"]["facets"]["errorMessage"]["message"]

    def test_untold(self, tmp_path: Path) -> None:
        """A run left open by an internal error is ended with the step; a filtered job sends nothing."""
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
        """A replay that dies between two events is continued where it stopped."""
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
        """The Dagster run is ended by its next attempt or, if that dies, by the process that replays its journal."""
        run = RUN.format(1)
        dead(tmp_path, event(1), event(2), run=run)
        with receiver() as server:
            box = Outbox(client(server.url), tmp_path, run)
            while len(server.events) < 3:
                time.sleep(0.01)
            assert [("job1", "START"), ("job2", "START"), ("job2", "ABORT")] == told(server)
            assert box._journal is not None
            with folder_lock(tmp_path, soon()) as is_idle:  # its sender has read all journals, this one too
                assert is_idle
            box._journal.close()  # as its process would, if it were killed
            replay(client(server.url).transport, tmp_path, soon())
            box.close(soon())

        assert [("job1", "ABORT")] == told(server)[3:]

    @pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM])
    def test_killed(self, tmp_path: Path, sign: signal.Signals) -> None:
        """A process that is killed while its receiver hangs loses none of its events."""
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
    """Tests of errors of the disk."""

    def test_torn_line(self, tmp_path: Path) -> None:
        """A line that is not an event affects no other, and is counted once."""
        file = dead(tmp_path, event(1), event(1, RunState.COMPLETE))
        first, rest = file.read_text().split("\n", 1)
        garbage = ('{"eventTime": "2026', "\x00\xff", "[1]", "[" * 5_000)
        file.write_text("\n".join([first, *garbage, rest + '{"sent": ']))
        with receiver() as server:
            counts = replay(client(server.url).transport, tmp_path, soon())

        assert [("job1", "START"), ("job1", "COMPLETE")] == told(server)
        assert (2, 5) == (counts.replayed, counts.dropped)
        assert [] == journals(tmp_path)

    @pytest.mark.parametrize(
        "line",
        [
            '{"eventType": "START"}',
            '{"eventType": "START", "run": {"runId": "run-id", "facets": "none"}}',
            '{"eventType": "COMPLETE", "run": {"runId": "run-id"}}',
            '{"eventType": "COMPLETE", "run": {"runId": "run-id"}, "text": "\udcff"}',
        ],
    )
    @pytest.mark.parametrize("kind", ["http", "file"])
    def test_other_version(self, tmp_path: Path, line: str, kind: str) -> None:
        """Lines that are not events of this version, however many, hold back no other and are sent or counted."""
        dead(tmp_path / "lineage", event(1), event(1, RunState.COMPLETE))
        for number in range(4):
            file = tmp_path / "lineage" / f"a-run-{number}-1.ndjson"
            text = " " + line.replace("run-id", f"run-{number}") + "\n"
            file.write_text(text, encoding="utf-8", errors="surrogateescape")
        log = tmp_path / "events.log"
        with receiver() as server:
            file_transport = {"type": "file", "log_file_path": str(log), "append": True}
            to_file = OpenLineageClient(config={"transport": file_transport})
            counts = replay((client(server.url) if kind == "http" else to_file).transport, tmp_path / "lineage", soon())
            received = server.events if kind == "http" else [json.loads(text) for text in log.read_text().splitlines()]

        assert ["START", "COMPLETE"] == [each["eventType"] for each in received if "job" in each]
        assert 6 <= counts.replayed + counts.dropped
        assert [] == journals(tmp_path / "lineage")

    def test_limit(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """All journals together stay within their limit; events without room are sent or dropped, and counted."""
        monkeypatch.setattr(module, "FOLDER_BYTES", 2_000)
        ends = [event(number, RunState.COMPLETE) for number in range(10)]
        dead(tmp_path, *ends[:4])
        box = Outbox(client("http://127.0.0.1:1"), tmp_path, "a-run")
        for each in ends:
            box.put(each)
        counts = box.close(soon())

        assert counts.spooled + counts.dropped == 10
        assert counts.dropped > 0
        assert "has reached its limit" in counts.reason
        assert 2_000 > sum(file.stat().st_size for file in journals(tmp_path))

    @pytest.mark.parametrize("healthy", [True, False])
    def test_no_disk(self, tmp_path: Path, healthy: bool) -> None:
        """Without a disk, events are still sent; those that cannot be sent are dropped and counted."""
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
        """A disk that fills up tears at most one line; events written before and after arrive."""
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


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a disk")
class TestFullVolume:
    """Tests with a file system that has no room left."""

    @pytest.fixture
    def volume(self, tmp_path: Path) -> Iterator[Path]:
        """Return a mounted folder with room for a few hundred events."""
        with full_volume(tmp_path / "volume"):
            (tmp_path / "volume" / "filler").unlink()
            yield tmp_path / "volume"

    def test_empties_itself(self, volume: Path) -> None:
        """Waiting events are sent once, their file is deleted though full, and new events are stored again."""
        dead(volume, *(event(number, RunState.COMPLETE) for number in range(1_000)))
        fill(volume)
        kept = sum(line.is_waiting for line in module.read_lines(*journals(volume)))
        assert 100 < kept < 1_000
        with receiver() as server:
            first = Outbox(client(server.url), volume, "first")
            first.put(event(2_000, RunState.COMPLETE))
            counts = first.close(soon())
            assert (1, kept) == (counts.sent, counts.replayed)
            assert "No space left" in counts.reason
            again = Outbox(client(server.url), volume, "second").close(soon())

        assert (0, 0) == (again.sent, again.replayed)
        assert kept + 1 == len(server.events)
        assert [] == journals(volume)
        file = dead(volume, event(1))
        assert 1 == sum(line.is_waiting for line in module.read_lines(file))

    def test_in_part(self, volume: Path) -> None:
        """After an interrupted replay, the next one sends the rest, and nothing twice."""
        dead(volume, *(event(number, RunState.COMPLETE) for number in range(100)))
        fill(volume)
        with faulty() as server:
            for number in (20, 50):
                server.go_wrong(status=503, only=range(number, 1_000))
                replay(client(server.url).transport, volume, soon())
            server.go_wrong()
            replay(client(server.url).transport, volume, soon())

        assert [f"job{number}" for number in range(100)] == [job for job, _ in told(server)]
        assert [] == journals(volume)

    def test_end_not_stored(self, volume: Path) -> None:
        """A run whose end was accepted, though the disk was full, is not reported as killed later."""
        with faulty() as server:
            box = Outbox(client(server.url), volume, "a-run")
            for number in range(5):
                box.put(event(number))
            fill(volume)
            server.go_wrong(status=503, only=range(1, 2))
            for number in range(5):
                box.put(event(number, RunState.COMPLETE))
            box.close(soon())
            (volume / "filler").unlink()
            server.go_wrong()
            replay(client(server.url).transport, volume, soon())

        assert [] == [job for job, state in told(server) if state == "ABORT"]
        assert {f"job{number}" for number in range(5)} == {job for job, state in told(server) if state == "COMPLETE"}

    def test_open_run(self, volume: Path) -> None:
        """The end of a run that a dead process left open is sent though it cannot be stored, even at the second try."""
        dead(volume, event(1))
        fill(volume)
        with faulty() as server:
            for only in ({1, 2, 3}, set[int]()):
                server.go_wrong(status=503, only=only)
                replay(client(server.url).transport, volume, soon())

        assert [("job1", "START"), ("job1", "ABORT")] == told(server)
        assert [] == journals(volume)

    def test_last(self, volume: Path) -> None:
        """The copy for inspection is deleted to make room for waiting events."""
        with receiver() as server:
            box = Outbox(client(server.url), volume, "a-run")
            for number in range(100):
                box.put(event(number, RunState.COMPLETE))
            box.close(soon())
        assert (volume / LAST_JOURNAL).exists()
        fill(volume)
        box = Outbox(client("http://127.0.0.1:1"), volume, "a-run")
        for number in range(50):
            box.put(event(number, RunState.COMPLETE))
        counts = box.close(soon())

        assert (50, 0, "") == (counts.spooled, counts.dropped, counts.disk_error)
        assert not (volume / LAST_JOURNAL).exists()


@contextmanager
def no_larger_than(size: int) -> Iterator[None]:
    """Limit this process's files to `size` bytes, with the error of a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


class TestTransports:
    """Tests of transports other than HTTP, which get events as objects."""

    def test_rebuilt(self) -> None:
        """An event is the same as an object and as text, whatever its facets."""
        from openlineage.client.serde import Serde
        from pipeline.floe.lineage.transports import run_event

        from tests.lineage.replay import replay as recorded

        for each in recorded("duckdb"):
            assert each == json.loads(Serde.to_json(run_event(json.dumps(each))))

    def test_file(self, tmp_path: Path) -> None:
        """A transport of the owner's choice gets the events."""
        log = tmp_path / "events.log"
        config: dict[str, Any] = {"transport": {"type": "file", "log_file_path": str(log), "append": True}}
        box = Outbox(OpenLineageClient(config=config), tmp_path / "state", "a-run")
        box.put(event(1, RunState.COMPLETE))
        counts = box.close(soon())

        assert 1 == counts.sent
        assert "job1" == json.loads(log.read_text())["job"]["name"]
