"""An environment without endpoints and secrets of the owner's, and the recorded run that most tests look at."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from . import everything
from .endpoint import serve
from .runs import Sent, run_recorded

# Variables that say where lineage, traces and messages go, and through which proxy.
LINKS = ("FLOE_DAGSTER_URL", "FLOE_TRACE_URL", "FLOE_LINEAGE_URL")
OWN = ("OPENLINEAGE", "OTEL_", "TRACEPARENT", "FLOE_ALERT_", "SMTP_", *LINKS)


@pytest.fixture(autouse=True, scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Unset what the owner's environment, `.env` and home say of endpoints; faults of the package raise."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name in os.environ:
            if name.startswith(OWN) or name.lower().endswith("_proxy"):
                monkeypatch.delenv(name)
        monkeypatch.setenv("HOME", str(home))  # may hold .openlineage/openlineage.yml
        monkeypatch.setenv("FLOE_RAISE", "1")
        monkeypatch.setenv("LOG_FORMAT", "json")
        monkeypatch.chdir(home)
        yield


@pytest.fixture(autouse=True)
def state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder in which this test keeps what could not be sent."""
    monkeypatch.setenv("FLOE_STATE_DIR", str(tmp_path / "state"))
    return tmp_path / "state"


@contextmanager
def own_log() -> Iterator[None]:
    """Remove the log handlers that a run adds: they write to the output of its test."""
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    yield
    for handler in list(root.handlers):
        if handler not in before:
            root.removeHandler(handler)
    root.setLevel(level)
    logging.captureWarnings(False)


@pytest.fixture(autouse=True)
def log_of_test() -> Iterator[None]:
    """Let the log of a run end with its test."""
    with own_log():
        yield


@pytest.fixture(scope="session")
def sent(tmp_path_factory: pytest.TempPathFactory) -> Sent:
    """Return what the recorded run sends to a healthy endpoint."""
    folder = tmp_path_factory.mktemp("recorded")
    with pytest.MonkeyPatch.context() as monkeypatch, own_log(), serve() as endpoint:
        monkeypatch.setenv("FLOE_STATE_DIR", str(folder / "state"))
        tags = run_recorded(folder, lineage_url=endpoint.url, otlp_url=endpoint.url)
        return Sent.of(endpoint, tags)


@pytest.fixture(scope="session")
def sent_in_full(tmp_path_factory: pytest.TempPathFactory) -> Sent:
    """Return what a run sends that has everything of which lineage and spans can speak."""
    folder = tmp_path_factory.mktemp("everything")
    with pytest.MonkeyPatch.context() as monkeypatch, own_log(), serve() as endpoint:
        monkeypatch.setenv("FLOE_STATE_DIR", str(folder / "state"))
        for name, value in everything.ENVIRONMENT.items():
            monkeypatch.setenv(name, value)
        tags = everything.run(folder, endpoint.url)
        return Sent.of(endpoint, tags)
