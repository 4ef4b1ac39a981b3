"""A server in a process of its own, on a free port of this machine."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

from tools.engines import EngineError


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


class Server:
    """A command that listens on a port of 127.0.0.1 until `stop`."""

    def __init__(self, *command: str | Path, port: int, log: Path, seconds: float, **environment: str) -> None:
        """Start `command` and wait until it accepts connections.

        Args:
            command: The program and its arguments.
            port: Where it will listen.
            log: File that takes what it prints.
            seconds: How long to wait.
            environment: Variables besides those of this process.

        Raises:
            EngineError: It ended, or does not listen in time; the message has the end of its log.
        """
        self._log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=log.parent,
                env=os.environ | environment,
                # A group of its own: stop() also reaches what the command starts, and Ctrl-C reaches us first.
                start_new_session=True,
            )
        try:
            self._wait(port, seconds)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the process and what it started; by force after ten seconds."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGTERM)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()

    def _wait(self, port: int, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while self._process.poll() is None and time.monotonic() < deadline:
            with socket.socket() as client:
                if client.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(0.05)
        why = "ended" if self._process.poll() is not None else f"does not listen after {seconds:g} s"
        end = self._log.read_text(errors="replace")[-3000:]
        msg = f"{Path(str(self._process.args[0])).name} {why}:\n{end}"  # type: ignore[index]
        raise EngineError(msg)
