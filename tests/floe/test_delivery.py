"""Tests of the bounded sender: it loses nothing and never delays a run beyond its budget."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

import pytest
from pipeline.floe.delivery import sender as module
from pipeline.floe.delivery.channel import Channel, RefusedError
from pipeline.floe.delivery.sender import Delivery


def soon() -> float:
    """Return a deadline that a healthy channel never needs."""
    return time.monotonic() + 10


def failing(_: Sequence[str]) -> None:
    """Fail like a dead endpoint."""
    raise ConnectionError("refused")


class ListChannel(Channel[str]):  # type: ignore[misc]
    """A channel of words that is made of functions."""

    name = "test"

    def __init__(
        self,
        send: Callable[[Sequence[str]], None],
        *,
        batch: int = 1,
        size: Callable[[str], int] = lambda _: 4_096,
        sequence: Callable[[str], str | None] = lambda _: None,
        acknowledge: Callable[[Sequence[str]], None] = lambda _: None,
        spool: Callable[[Sequence[str]], int] = lambda _: 0,
        backlog: Iterable[str] = (),
    ) -> None:
        self.batch = batch
        self._functions = (send, size, sequence, acknowledge, spool)
        self._backlog = iter(backlog)

    def send(self, items: Sequence[str]) -> None:
        self._functions[0](items)

    def size(self, item: str) -> int:
        return self._functions[1](item)

    def sequence(self, item: str) -> str | None:
        return self._functions[2](item)

    def acknowledge(self, items: Sequence[str]) -> None:
        self._functions[3](items)

    def spool(self, items: Sequence[str], _: float) -> int:
        return self._functions[4](items)

    def backlog(self) -> Iterator[str]:
        return self._backlog


class Held:
    """A stand-in for an endpoint that accepts a connection and never answers."""

    def __init__(self) -> None:
        self.calls = 0
        self.answer = threading.Event()

    def __call__(self, _: Sequence[str]) -> None:
        self.calls += 1
        self.answer.wait(30)


class TestDelivery:
    """Tests of the delivery of items."""

    def test_sent(self) -> None:
        """Everything arrives, once, in order."""
        arrived: list[str] = []
        channel = Delivery(ListChannel(arrived.extend))
        for number in range(100):
            channel.put(str(number))

        counts = channel.close(soon())

        assert [str(number) for number in range(100)] == arrived
        assert (100, 0, 0) == (counts.sent, counts.spooled, counts.dropped)

    def test_batches(self) -> None:
        """Several items are sent in one call, but never more than the batch size."""
        sizes: list[int] = []
        gate = threading.Event()

        def send(items: Sequence[str]) -> None:
            gate.wait(10)
            sizes.append(len(items))

        channel = Delivery(ListChannel(send, batch=10))
        for number in range(35):
            channel.put(str(number))
        gate.set()
        channel.close(soon())

        assert 35 == sum(sizes)
        assert max(sizes) == 10

    def test_lingers(self) -> None:
        """Items that come one by one are sent together, and none waits once the run is over."""
        sizes: list[int] = []
        channel = Delivery(ListChannel(lambda items: sizes.append(len(items)), batch=50))
        for number in range(20):
            channel.put(str(number))
            time.sleep(0.005)
        before = time.monotonic()
        channel.close(soon())

        assert [20] == sizes
        assert time.monotonic() - before < module.LINGER_SECONDS / 2

    def test_kept(self) -> None:
        """With a dead endpoint, everything is spooled after attempts for only a few items."""
        calls: list[Sequence[str]] = []
        kept: list[str] = []

        def send(items: Sequence[str]) -> None:
            calls.append(items)
            failing(items)

        channel = Delivery(ListChannel(send, spool=keeper(kept)))
        for number in range(50):
            channel.put(str(number))
        time.sleep(0.2)
        counts = channel.close(soon())

        assert {str(number) for number in range(50)} == set(kept)
        assert (module.FAILURES, 50, 0) == (len(calls), counts.spooled, counts.dropped)
        assert "refused" in counts.reason

    def test_comes_back(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Items that fail while an endpoint is down arrive in the same run once it is up again."""
        monkeypatch.setattr(module, "REST_SECONDS", 0.05)
        arrived: list[str] = []
        dead = threading.Event()
        dead.set()

        def send(items: Sequence[str]) -> None:
            if dead.is_set():
                failing(items)
            arrived.extend(items)

        channel = Delivery(ListChannel(send))
        for number in range(10):
            channel.put(str(number))
        time.sleep(0.2)
        dead.clear()
        time.sleep(0.2)
        counts = channel.close(soon())

        assert {str(number) for number in range(10)} == set(arrived)
        assert (10, 0, False) == (counts.sent, counts.dropped, counts.is_bad)

    def test_choking(self) -> None:
        """An item that always fails does not hold up any other."""
        arrived: list[str] = []

        def send(items: Sequence[str]) -> None:
            if items[0] == "bad":
                failing(items)
            arrived.extend(items)

        channel = Delivery(ListChannel(send))
        for item in ("a", "bad", "b", "c"):
            channel.put(item)
        time.sleep(0.1)
        counts = channel.close(soon())

        assert (["a", "b", "c"], 3, 1) == (arrived, counts.sent, counts.dropped)

    def test_refused(self) -> None:
        """A refused item is dropped, and the next item is still tried."""
        kept: list[str] = []

        def send(items: Sequence[str]) -> None:
            if items[0] == "bad":
                raise RefusedError("422")

        channel = Delivery(ListChannel(send, spool=keeper(kept)))
        channel.put("bad")
        channel.put("good")
        counts = channel.close(soon())

        assert (1, 0, 1, []) == (counts.sent, counts.spooled, counts.dropped, kept)

    def test_refused_between(self) -> None:
        """Failures with a refusal between them are not in a row: the endpoint works, and everything else arrives."""
        answers = [ConnectionError("503"), RefusedError("400")] * (module.FAILURES + 1)
        arrived: list[str] = []

        def send(items: Sequence[str]) -> None:
            if answers:
                raise answers.pop(0)
            arrived.extend(items)

        channel = Delivery(ListChannel(send))
        for number in range(20):
            channel.put(str(number))
        counts = channel.close(soon())

        assert (16, 0, 4) == (counts.sent, counts.spooled, counts.dropped)
        assert 16 == len(arrived)

    def test_refused_in_part(self) -> None:
        """If the receiver takes a batch but for a few items, these are counted as dropped, and none is sent again."""
        calls: list[int] = []

        def send(items: Sequence[str]) -> None:
            calls.append(len(items))
            raise RefusedError("3 rejected: too old", 3)

        channel = Delivery(ListChannel(send, batch=10))
        for number in range(10):
            channel.put(str(number))
        counts = channel.close(soon())

        assert (10, 10 - 3 * len(calls), 3 * len(calls)) == (sum(calls), counts.sent, counts.dropped)
        assert "too old" in counts.reason

    def test_hanging(self) -> None:
        """An endpoint that hangs costs at most the time until the deadline, and nothing is lost."""
        kept: list[str] = []
        held = Held()
        channel = Delivery(ListChannel(held, spool=keeper(kept)))
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
        """Items beyond the queue's size are spooled at once, and the run does not wait."""
        monkeypatch.setattr(module, "QUEUE_BYTES", 10)
        held = Held()
        kept: list[str] = []
        channel = Delivery(ListChannel(held, spool=keeper(kept), size=lambda _: 1))
        for number in range(100):
            channel.put(str(number))
        early = len(kept)
        counts = channel.close(time.monotonic())
        held.answer.set()

        assert (early, 100) in {(89, counts.spooled), (90, counts.spooled)}  # one may have left the queue

    def test_quick_end(self) -> None:
        """At the end, the same number of failures in a row is enough: the rest is not tried."""
        tried = threading.Event()
        calls = 0

        def send(_: Sequence[str]) -> None:
            nonlocal calls
            calls += 1
            tried.wait(10)
            raise TimeoutError

        channel = Delivery(ListChannel(send))
        for number in range(5):
            channel.put(str(number))
        threading.Timer(0.1, tried.set).start()
        counts = channel.close(soon())

        assert (module.FAILURES, 5) == (calls, counts.dropped)

    @pytest.mark.parametrize("batch", [1, 50])
    @pytest.mark.parametrize("failures", [1, 2])
    @pytest.mark.parametrize("first", [0, 20])
    def test_failure_at_close(self, batch: int, failures: int, first: int) -> None:
        """After fewer failures in a row, everything still arrives in the same run."""
        gate = threading.Event()
        arrived: list[str] = []
        calls = 0

        def send(items: Sequence[str]) -> None:
            nonlocal calls
            gate.wait(10)
            calls += 1
            if first // batch < calls <= first // batch + failures:
                failing(items)
            arrived.extend(items)

        channel = Delivery(ListChannel(send, batch=batch))
        for number in range(50):
            channel.put(str(number))
        threading.Timer(0.1, gate.set).start()
        counts = channel.close(soon())

        assert (50, 0) == (counts.sent, counts.dropped)
        assert {str(number) for number in range(50)} == set(arrived)

    @pytest.mark.parametrize("largest", [1, 3, 10, 49])
    def test_too_large(self, largest: int) -> None:
        """A batch that is refused as too large is sent in smaller ones."""
        arrived: list[str] = []

        def send(items: Sequence[str]) -> None:
            if len(items) > largest:
                raise RefusedError("413")
            arrived.extend(items)

        channel = Delivery(ListChannel(send, batch=50))
        for number in range(200):
            channel.put(str(number))
        counts = channel.close(soon())

        assert [str(number) for number in range(200)] == arrived
        assert (200, 0) == (counts.sent, counts.dropped)

    def test_refused_in_batch(self) -> None:
        """If one item of a batch is refused, only that item is dropped."""
        arrived: list[str] = []

        def send(items: Sequence[str]) -> None:
            if "33" in items:
                raise RefusedError("400")
            arrived.extend(items)

        channel = Delivery(ListChannel(send, batch=50))
        for number in range(60):
            channel.put(str(number))
        counts = channel.close(soon())

        assert [str(number) for number in range(60) if number != 33] == arrived
        assert (59, 1) == (counts.sent, counts.dropped)


class TestOrder:
    """Tests of the order within a sequence, which is named by the first letter here."""

    @pytest.mark.parametrize("failing_calls", [{1}, {1, 2}, {2}, {3}, {1, 4, 6}, {6}])
    @pytest.mark.parametrize("early", [True, False])
    def test_retry(self, failing_calls: set[int], early: bool) -> None:
        """A failed item is sent before its successors in its sequence; other sequences overtake it."""
        gate = threading.Event()
        arrived: list[str] = []
        calls = 0

        def send(items: Sequence[str]) -> None:
            nonlocal calls
            gate.wait(10)
            calls += 1
            if calls in failing_calls:
                failing(items)
            arrived.extend(items)

        channel = Delivery(ListChannel(send, sequence=lambda item: item[0]))
        if early:
            gate.set()
        for item in ("a1", "b1", "a2", "c1", "b2", "a3", "c2"):
            channel.put(item)
        gate.set()
        counts = channel.close(soon())

        assert (7, 0) == (counts.sent, counts.dropped)
        assert {"a": ["a1", "a2", "a3"], "b": ["b1", "b2"], "c": ["c1", "c2"]} == {
            name: [item for item in arrived if item[0] == name] for name in "abc"
        }
        assert "a" != arrived[0][0] or 1 not in failing_calls

    def test_choking(self) -> None:
        """A sequence whose first item always fails is spooled as a whole; others arrive."""
        arrived: list[str] = []
        kept: list[str] = []

        def send(items: Sequence[str]) -> None:
            if items[0] == "a1":
                failing(items)
            arrived.extend(items)

        channel = Delivery(ListChannel(send, sequence=lambda item: item[0], spool=keeper(kept)))
        for item in ("a1", "b1", "a2", "b2"):
            channel.put(item)
        channel.close(soon())

        assert (["b1", "b2"], ["a1", "a2"]) == (arrived, kept)

    def test_full(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The successors of an item that had no room in memory are left to the next run as well."""
        monkeypatch.setattr(module, "QUEUE_BYTES", 3)
        gate = threading.Event()
        arrived: list[str] = []
        kept: list[str] = []

        def send(items: Sequence[str]) -> None:
            gate.wait(10)
            arrived.extend(items)

        channel = Delivery(
            ListChannel(send, sequence=lambda item: item[0], spool=keeper(kept), size=lambda item: len(item) - 1)
        )
        for item in ("b1", "b22", "a333"):
            channel.put(item)
        gate.set()
        time.sleep(0.1)
        channel.put("a4")
        channel.put("b3")
        channel.close(soon())

        assert (["b1", "b22", "b3"], ["a333", "a4"]) == (arrived, kept)


class TestBacklog:
    """Tests of the items left by earlier runs."""

    def test_replayed(self) -> None:
        """The backlog is sent as well, and counted separately."""
        arrived: list[str] = []
        done: list[str] = []
        channel = Delivery(ListChannel(arrived.extend, acknowledge=done.extend, backlog=["old", "older"]))
        channel.put("new")
        counts = channel.close(soon())

        assert {"new", "old", "older"} == set(arrived) == set(done)
        assert (1, 2) == (counts.sent, counts.replayed)

    def test_own_first(self) -> None:
        """A long backlog does not hold up the run's own items."""
        arrived: list[str] = []

        def send(items: Sequence[str]) -> None:
            time.sleep(0.01)
            arrived.extend(items)

        channel = Delivery(ListChannel(send, backlog=[f"old {number}" for number in range(500)]))
        channel.put("new")
        channel.close(time.monotonic() + 0.2)

        assert "new" in arrived[:2]
        assert 500 > len(arrived)

    def test_choking(self) -> None:
        """A backlog that fails is left alone after a few attempts, and not acknowledged."""
        tried: list[str] = []
        done: list[str] = []

        def send(items: Sequence[str]) -> None:
            tried.extend(items)
            if items[0].startswith("old"):
                failing(items)

        backlog = (f"old {number}" for number in range(50))
        channel = Delivery(ListChannel(send, acknowledge=done.extend, backlog=backlog))
        time.sleep(0.1)
        channel.put("new")
        counts = channel.close(soon())

        assert (module.FAILURES + 1, ["new"]) == (len(tried), done)
        assert (1, 0, 0) == (counts.sent, counts.replayed, counts.dropped)

    def test_one_failure(self) -> None:
        """Failures of the backlog do not count against the run's own items."""
        arrived: list[str] = []
        calls = 0

        def send(items: Sequence[str]) -> None:
            nonlocal calls
            calls += 1
            if calls <= module.FAILURES + 1:
                failing(items)
            arrived.extend(items)

        channel = Delivery(ListChannel(send, backlog=[f"old {number}" for number in range(50)]))
        time.sleep(0.1)
        channel.put("new")
        counts = channel.close(soon())

        assert (["new"], 1, 0) == (arrived, counts.sent, counts.dropped)

    def test_unreadable(self) -> None:
        """A backlog that cannot be read does not affect the run's own items."""

        def broken() -> Iterator[str]:
            yield "old"
            raise OSError("no such file")

        arrived: list[str] = []
        channel = Delivery(ListChannel(arrived.extend, backlog=broken()))
        time.sleep(0.1)
        channel.put("new")
        channel.close(soon())

        assert ["old", "new"] == arrived


def keeper(kept: list[str]) -> Callable[[Sequence[str]], int]:
    """Return a `keep` that appends to `kept`."""

    def keep(items: Sequence[str]) -> int:
        kept.extend(items)
        return len(items)

    return keep
