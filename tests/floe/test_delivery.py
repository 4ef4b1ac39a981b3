"""The one bounded sender: what arrives, what is kept, and that it never keeps a run waiting."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from pipeline.floe import delivery as module
from pipeline.floe.delivery import Delivery, RefusedError, Spool


def soon() -> float:
    """Return a deadline that a healthy channel never needs."""
    return time.monotonic() + 10


def failing(_: Sequence[str]) -> None:
    """Stand in for a dead endpoint."""
    raise ConnectionError("refused")


class Held:
    """Stands in for an endpoint that takes a connection and never answers."""

    def __init__(self) -> None:
        self.calls = 0
        self.answer = threading.Event()

    def __call__(self, _: Sequence[str]) -> None:
        self.calls += 1
        self.answer.wait(30)


class TestDelivery:
    """What becomes of items."""

    def test_sent(self) -> None:
        """Everything arrives, once, in order."""
        arrived: list[str] = []
        channel: Delivery[str] = Delivery("test", arrived.extend)
        for number in range(100):
            channel.put(str(number))

        counts = channel.close(soon())

        assert [str(number) for number in range(100)] == arrived
        assert (100, 0, 0) == (counts.sent, counts.spooled, counts.dropped)

    def test_batches(self) -> None:
        """Several items go in one call, never more than the batch."""
        sizes: list[int] = []
        gate = threading.Event()

        def send(items: Sequence[str]) -> None:
            gate.wait(10)
            sizes.append(len(items))

        channel: Delivery[str] = Delivery("test", send, batch=10)
        for number in range(35):
            channel.put(str(number))
        gate.set()
        channel.close(soon())

        assert 35 == sum(sizes)
        assert max(sizes) == 10

    def test_kept(self) -> None:
        """With a dead endpoint everything is kept, and only the first item costs an attempt."""
        calls: list[Sequence[str]] = []
        kept: list[str] = []

        def send(items: Sequence[str]) -> None:
            calls.append(items)
            failing(items)

        channel: Delivery[str] = Delivery("test", send, keep=keeper(kept))
        for number in range(50):
            channel.put(str(number))
        counts = channel.close(soon())

        assert [str(number) for number in range(50)] == kept
        assert (1, 50, 0) == (len(calls), counts.spooled, counts.dropped)
        assert "refused" in counts.last_error

    def test_tried_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """An endpoint that comes back is used again after the cool-down."""
        monkeypatch.setattr(module, "COOL_DOWN_SECONDS", 0.05)
        arrived: list[str] = []
        dead = threading.Event()
        dead.set()

        def send(items: Sequence[str]) -> None:
            if dead.is_set():
                failing(items)
            arrived.extend(items)

        channel: Delivery[str] = Delivery("test", send, keep=lambda _: True)
        channel.put("lost for now")
        time.sleep(0.2)
        dead.clear()
        channel.put("arrives")
        counts = channel.close(soon())

        assert (["arrives"], 1, 1) == (arrived, counts.sent, counts.spooled)

    def test_refused(self) -> None:
        """What the receiver will never take is dropped, and the next item is still tried."""
        kept: list[str] = []

        def send(items: Sequence[str]) -> None:
            if items[0] == "bad":
                raise RefusedError("422")

        channel: Delivery[str] = Delivery("test", send, keep=keeper(kept))
        channel.put("bad")
        channel.put("good")
        counts = channel.close(soon())

        assert (1, 0, 1, []) == (counts.sent, counts.spooled, counts.dropped, kept)

    def test_hanging(self) -> None:
        """An endpoint that hangs costs no more than the deadline, and nothing is lost."""
        kept: list[str] = []
        held = Held()
        channel: Delivery[str] = Delivery("test", held, keep=keeper(kept))
        for number in range(1000):
            channel.put(str(number))

        started = time.monotonic()
        counts = channel.close(started + 0.3)
        took = time.monotonic() - started
        held.answer.set()

        assert took < 2  # not a timing: the endpoint would hold it for 30 s
        assert (1, 1000, 0) == (held.calls, counts.spooled, counts.dropped)
        assert sorted(kept, key=int) == [str(number) for number in range(1000)]

    def test_full(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A full queue keeps the item at once instead of making the run wait."""
        monkeypatch.setattr(module, "QUEUE_ITEMS", 10)
        held = Held()
        channel: Delivery[str] = Delivery("test", held, keep=lambda _: True)
        for number in range(100):
            channel.put(str(number))
        counts = channel.close(time.monotonic())
        held.answer.set()

        assert 100 == counts.spooled

    def test_one_warning(self, caplog: pytest.LogCaptureFixture) -> None:
        """However many items were not sent, one warning tells how many and why."""
        channel: Delivery[str] = Delivery("lineage", failing)
        for number in range(20):
            channel.put(str(number))
        channel.close(soon())

        (record,) = caplog.records
        assert "lineage: 20 dropped; last error: ConnectionError: refused" == record.getMessage()

    def test_silent_when_well(self, caplog: pytest.LogCaptureFixture) -> None:
        """A healthy channel warns of nothing."""
        Delivery("lineage", lambda _: None).close(soon())

        assert [] == caplog.records


class TestSpool:
    """The file for what could not be sent."""

    def test_round_trip(self, tmp_path: Path) -> None:
        """What is kept is taken in order, once."""
        spool = Spool(tmp_path / "new" / "lineage.ndjson")
        lines = [json.dumps({"n": number}) for number in range(3)]
        assert all(spool.keep(line) for line in lines)

        assert (lines, []) == (spool.take(), spool.take())

    def test_owner_only(self, tmp_path: Path) -> None:
        """Only its owner can read it."""
        Spool(tmp_path / "lineage.ndjson").keep("{}")

        assert 0o600 == (tmp_path / "lineage.ndjson").stat().st_mode & 0o777

    def test_torn_line(self, tmp_path: Path) -> None:
        """A line that a crash has torn costs itself only."""
        (tmp_path / "lineage.ndjson").write_text('{"n": 1}\n{"n": \n{"n": 2}\n')

        assert ['{"n": 1}', '{"n": 2}'] == Spool(tmp_path / "lineage.ndjson").take()

    def test_bounded(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """It takes no more than its size."""
        monkeypatch.setattr(module, "SPOOL_BYTES", 20)
        spool = Spool(tmp_path / "lineage.ndjson")

        assert [True, True, False] == [spool.keep('{"n": 1}') for _ in range(3)]

    def test_no_disk(self, tmp_path: Path) -> None:
        """A disk that takes nothing is an answer, not an error."""
        (tmp_path / "file").write_text("")

        assert not Spool(tmp_path / "file" / "lineage.ndjson").keep("{}")


def keeper(kept: list[str]) -> Callable[[str], bool]:
    """Return a `keep` that appends to `kept`."""

    def keep(item: str) -> bool:
        kept.append(item)
        return True

    return keep
