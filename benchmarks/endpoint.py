"""A receiver in its own process, so that its work is not counted: healthy, refusing or hanging."""

from __future__ import annotations

import multiprocessing
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

from tools.receiver import Receiver


class _Keeping(Receiver):
    """Keeps bodies as they came: they are read after the run, not during it."""

    def __init__(self) -> None:
        super().__init__()
        self.bodies: list[tuple[str, bytes]] = []

    def take(self, path: str, headers: dict[str, str], body: bytes) -> bool:
        del headers
        self.bodies.append((path, body))
        return path in {"/api/v1/lineage", "/v1/traces", "/v1/metrics"}


class Endpoint:
    """A running receiver, as seen from outside."""

    def __init__(self, url: str, pipe: Connection) -> None:
        self.url = url
        self._pipe = pipe

    def taken(self) -> tuple[list[dict[str, Any]], int]:
        """Return the events since the last call, and how many spans there were."""
        self._pipe.send("taken")
        bodies = self._pipe.recv()
        reader = Receiver()
        for path, body in bodies:
            reader.take(path, {}, body)
        reader.server_close()
        return reader.events, len(reader.spans)


def _serve(pipe: Connection) -> None:
    import threading

    server = _Keeping()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    pipe.send(server.url)
    while pipe.recv() != "stop":
        bodies, server.bodies = server.bodies, []
        pipe.send(bodies)


@contextmanager
def healthy() -> Iterator[Endpoint]:
    """Serve until the block ends."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(there,), daemon=True)
    process.start()
    try:
        yield Endpoint(here.recv(), here)
    finally:
        here.send("stop")
        process.join()


@contextmanager
def refused() -> Iterator[str]:
    """Give a URL that nobody listens at."""
    with socket.socket() as held:  # bound and not listening: connections are refused, and nobody else gets the port
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}"


@contextmanager
def hanging() -> Iterator[str]:
    """Give a URL that takes connections and never answers."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen(128)  # the kernel takes them
        yield f"http://127.0.0.1:{held.getsockname()[1]}"
