"""A step with a real observer, watchers and deliveries, but simulated dbt events and Dagster context."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal
from uuid import uuid4

import dagster as dg

from benchmarks import emitter
from tests.faults.server import EVERY, Fault, FaultyServer, faulty

CHANNELS = ("lineage", "OTLP HTTP", "OTLP gRPC")
UNKNOWN_HOST = "floe-nowhere.invalid"
AT_CLOSE = -1
ROOM = 16 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A fault of the connection, the response, the address or the disk.

    Attributes:
        once: When the one request is made that gets `status`: at the start, in the middle or at close.
        returns: The endpoint is well again before the end.
        full: The volume of the state folder has no room, or little if the endpoint is dead: `run` mounts one.
    """

    name: str
    fault: Fault = Fault.NONE
    status: int = 200
    delay: float = 0.0
    scheme: str = "http"
    host: str = "127.0.0.1"
    larger_than: int = 0
    once: Literal["", "start", "middle", "close"] = ""
    returns: bool = False
    full: bool = False
    channels: Sequence[str] = CHANNELS


OVER_HTTP = CHANNELS[:2]
CASES = (
    Case(name="refuses", fault=Fault.REFUSE),
    Case(name="hangs", fault=Fault.HANG),
    Case(name="drops SYN", fault=Fault.DROP_SYN),
    Case(name="401", status=401),
    Case(name="413 for large ones", status=413, larger_than=2_000),
    Case(name="429", status=429),
    Case(name="500", status=500),
    Case(name="slow, 0.3 s", delay=0.3),
    Case(name="closes in the middle", fault=Fault.CLOSE),
    Case(name="speaks garbage", fault=Fault.GARBAGE),
    Case(name="fails TLS", scheme="https"),
    Case(name="fails DNS", host=UNKNOWN_HOST),
    Case(name="dies, comes back", fault=Fault.REFUSE, returns=True),
    Case(name="redirects, 302", status=302, channels=OVER_HTTP),
    Case(name="redirects, 307", status=307, channels=OVER_HTTP),
    Case(name="endless body", fault=Fault.ENDLESS_BODY, channels=OVER_HTTP),
    Case(name="slow body", fault=Fault.SLOW_BODY, channels=OVER_HTTP),
    Case(name="one 503 at the start", status=503, once="start"),
    Case(name="one 503 in the middle", status=503, once="middle"),
    Case(name="one 503 at close", status=503, once="close"),
    Case(name="full volume", full=True),
    Case(name="refuses, and the volume fills up", fault=Fault.REFUSE, full=True),
)


@dataclass(frozen=True, slots=True)
class Ran:
    """The result of a run with a fault.

    Attributes:
        seconds: How long the run took.
        warnings: What it warned of.
        tags: Those of the run.
        arrived: What the receiver has in the end, the replay included: run id and state, or span id.
        dropped: How many items the run, and the replay, say that they have dropped.
        disordered: How many lineage runs the receiver has heard the end of before the start.
    """

    seconds: float
    warnings: list[str]
    tags: dict[str, str]
    arrived: Counter[tuple[str, str]]
    dropped: int
    disordered: int


def made_project(folder: Path, nodes: int) -> Path:
    """Simulate a dbt project of tables and as many tests, and return its target folder."""
    if not (folder / "manifest.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        emitter.project(folder, nodes // 2)
        (folder / "dbt_project.yml").write_text("name: shop\n")
    return folder


def run(
    channel: str, case: Case | None, target: Path, nodes: int, state: Path, tls: tuple[Path, Path], *, recover: bool
) -> Ran:
    """Run a step whose endpoint of `channel` has the fault `case`; with `recover`, repair it afterwards and replay."""
    case = case or Case(name="healthy")
    with (
        faulty(grpc=channel == "OTLP gRPC", tls=tls if case.scheme == "https" else None) as server,
        ExitStack() as disk,
    ):
        if case.full:
            disk.enter_context(full_volume(state, room=0 if case.fault is Fault.NONE else ROOM))
        url = server.url.replace("127.0.0.1", case.host)
        at: dict[int, Callable[[], None]] = {}

        def go_wrong() -> None:
            only = {0} if case.once else EVERY
            delay, larger_than = case.delay, case.larger_than
            server.go_wrong(case.fault, status=case.status, delay=delay, only=only, larger_than=larger_than)

        if case.once in {"middle", "close"}:
            at[nodes if case.once == "middle" else AT_CLOSE] = go_wrong
        else:
            go_wrong()
        if case.returns:
            at[nodes] = server.go_wrong
        seconds, warnings, tags = step(channel, url, target, nodes, state, at)
        dropped = sum(int(number) for tag in tags.values() for number in re.findall(r"(\d+) dropped", tag))
        if channel != "lineage" and not server.metrics:
            dropped -= 1  # the numbers of the run, which are not kept
        if recover:
            dropped += heal(channel, server, state)
        return Ran(seconds, warnings, tags, arrived(server), dropped, disordered(server))


def arrived(server: FaultyServer) -> Counter[tuple[str, str]]:
    """Return how often the receiver got each event and span."""
    events = Counter((event["run"]["runId"], event["eventType"]) for event in server.events)
    return events + Counter((span.span_id.hex(), "span") for span in server.spans)


def disordered(server: FaultyServer) -> int:
    """Return the number of runs whose end the receiver got before the start."""
    first: dict[tuple[str, bool], int] = {}
    for number, event in enumerate(server.events):
        first.setdefault((event["run"]["runId"], event["eventType"] == "START"), number)
    return sum(number > first.get((run, False), number) for (run, is_start), number in first.items() if is_start)


@contextmanager
def full_volume(folder: Path, size: int = 256 * 1024, *, room: int = 0) -> Iterator[None]:
    """Mount a file system of `size` bytes at `folder` with `room` bytes free; this needs root.

    Until the block ends, `folder / "filler"` can be deleted to make room.
    """
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=True)
    try:
        fill(folder)
        filler = folder / "filler"
        os.truncate(filler, filler.stat().st_size - room)
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def fill(folder: Path) -> None:
    """Write to a file in `folder` until the file system has no room left."""
    with suppress(OSError), (folder / "filler").open("ab", buffering=0) as filler:
        while True:
            filler.write(b"\0" * 1_024)


def step(
    channel: str, url: str, target: Path, nodes: int, state: Path, at: dict[int, Callable[[], None]]
) -> tuple[float, list[str], dict[str, str]]:
    """Run a step; return its duration, its warnings and the run's tags that Dagster shows.

    `at` holds what is called before the event of that number, or `AT_CLOSE`.
    """
    from pipeline.floe.observer import Observer

    tags: dict[str, str] = {}
    with environment(state), warned() as warnings, quiet():
        began = time.perf_counter()
        observer = Observer(context(tags), settings(channel, url))
        observer.attach(invocation(target))
        for number, raw in enumerate(emitter.events(nodes // 2)):
            if number in at:
                at[number]()
            observer.handle(raw)
        if AT_CLOSE in at:
            at[AT_CLOSE]()
        observer.finish(None)
        shown = {name: value for name, value in tags.items() if not name.startswith(".")}
        return time.perf_counter() - began, list(warnings), shown


def heal(channel: str, server: FaultyServer, state: Path) -> int:
    """Repair the endpoint and replay the spooled items, as the next run does; return the number dropped."""
    from pipeline.floe.delivery.sender import THREAD_PREFIX
    from pipeline.floe.lineage.endpoint import open_lineage
    from pipeline.floe.tracing.endpoint import open_spans

    # Senders that the run has not waited for, and that end with its process otherwise.
    deadline = time.monotonic() + 60
    while alive := [thread.name for thread in threading.enumerate() if thread.name.startswith(THREAD_PREFIX)]:
        assert time.monotonic() < deadline, f"still there: {alive}"
        time.sleep(0.05)
    server.go_wrong()
    well = server.url
    if server._tls:  # the owner has named the certificate meanwhile
        name = "REQUESTS_CA_BUNDLE" if channel != "OTLP gRPC" else "OTEL_EXPORTER_OTLP_CERTIFICATE"
        os.environ[name] = str(server._tls[0])
    dropped = 0
    try:
        with environment(state):
            for _ in range(3):
                told = settings(channel, well)
                box: Any = open_lineage(told, str(uuid4())) if channel == "lineage" else open_spans(told)
                counts = box.close(time.monotonic() + 60)
                left = [file for file in state.rglob("*.ndjson") if file.name != "last.ndjson"]
                if not left and not counts.last_error:
                    return dropped
                dropped += counts.dropped
        raise AssertionError(f"not replayed: {counts}, {counts.last_error}, {left}")
    finally:
        for name in ("REQUESTS_CA_BUNDLE", "OTEL_EXPORTER_OTLP_CERTIFICATE"):
            os.environ.pop(name, None)


def settings(channel: str, url: str) -> Any:
    """Return the project's settings with one endpoint."""
    from pipeline.floe.settings import settings as default

    if channel == "lineage":
        return replace(default, openlineage_url=url, otlp_endpoint="")
    protocol = "grpc" if channel == "OTLP gRPC" else "http/protobuf"
    return replace(default, openlineage_url="", otlp_endpoint=url, otlp_protocol=protocol)


def context(tags: dict[str, str], *, run_id: str | None = None) -> Any:
    """Return the part of a step's context that watchers read; `tags` receives the run's tags."""
    instance = SimpleNamespace(
        add_run_tags=lambda _, added: tags.update(added),
        get_run_record_by_id=lambda _: None,
        get_run_step_stats=lambda _: [],
        get_latest_materialization_event=lambda _: None,
        get_execution_plan_snapshot=lambda _: SimpleNamespace(step_keys_to_execute=["dbt"], steps=[]),
    )
    return SimpleNamespace(
        run=SimpleNamespace(execution_plan_snapshot_id="plan", parent_run_id=None, tags={}),
        run_id=run_id or str(uuid4()),
        job_name="daily",
        retry_number=0,
        has_partition_key=False,
        has_partition_key_range=False,
        instance=instance,
        log=logging.getLogger("tests.faults.run"),
        get_step_execution_context=lambda: SimpleNamespace(step=SimpleNamespace(key="dbt"), op_retry_policy=None),
    )


def invocation(target: Path) -> Any:
    """Return the part of dagster-dbt's handle that watchers read."""
    file = target / "manifest.json"
    recorded = json.loads(file.read_text()) if file.is_file() else {}
    return SimpleNamespace(
        target_path=target,
        manifest={**recorded, "metadata": {"project_name": "shop", "adapter_type": "duckdb"}},
        project=None,
        adapter=None,
        project_dir=target,
        process=SimpleNamespace(args=["dbt", "build"], poll=lambda: None),
        dagster_dbt_translator=SimpleNamespace(
            get_asset_key=lambda node: dg.AssetKey(node["name"]),
            get_asset_spec=lambda _manifest, unique_id, _project: dg.AssetSpec(unique_id.rpartition(".")[2]),
            get_owners=lambda _: None,
        ),
    )


@contextmanager
def environment(state: Path) -> Iterator[None]:
    """Store unsent events in `state`."""
    before = os.environ.get("FLOE_STATE_DIR")
    os.environ["FLOE_STATE_DIR"] = str(state)
    try:
        yield
    finally:
        os.environ.pop("FLOE_STATE_DIR")
        if before:
            os.environ["FLOE_STATE_DIR"] = before


@contextmanager
def warned() -> Iterator[list[str]]:
    """Collect the messages of all loggers at level warning or above."""
    found: list[str] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record.getMessage())

    handler = Collect(logging.WARNING)
    logging.getLogger().addHandler(handler)
    try:
        yield found
    finally:
        with suppress(ValueError):
            logging.getLogger().removeHandler(handler)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence `floe.logs`, which an observer sets up for the whole process."""
    root = logging.getLogger()
    before, stream = list(root.handlers), sys.stderr
    sys.stderr = io.StringIO()
    try:
        yield
    finally:
        sys.stderr = stream
        for handler in root.handlers:
            if handler not in before:
                root.removeHandler(handler)
