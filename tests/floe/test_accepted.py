"""Tests of what counts as sent: only what a receiver has accepted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from openlineage.client.event_v2 import RunState
from pipeline.floe.lineage.endpoint import open_lineage

from tests.faults.drive import environment, settings
from tests.faults.server import faulty
from tests.floe.test_journal import event, soon

REPLACE = "openlineage.client.transport.transform.JobNamespaceReplaceTransformer"


def asynchronous(kind: str, url: str) -> dict[str, Any]:
    """Return a transport that would report each event as sent and then send it in the background."""
    member = {"type": "async_http", "url": url}
    composite = {"type": "composite", "transports": [member]}
    return {
        "alone": member,
        "composite": composite,
        "composite by name": {"type": "composite", "transports": {"a": member}},
        "nested": {"type": "composite", "transports": [composite]},
        "transform": {
            "type": "transform",
            "transformer_class": REPLACE,
            "transformer_properties": {"new_job_namespace": "other"},
            "transport": member,
        },
        "datadog": {
            "type": "datadog",
            "apiKey": "planted-key",
            "site": url,
            "async_transport_rules": {"*": {"*": True}},
        },
    }[kind]


@pytest.mark.parametrize("status", [200, 503])
@pytest.mark.parametrize("kind", ["alone", "composite", "composite by name", "nested", "transform", "datadog"])
def test_asynchronous(kind: str, status: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An event counts as sent once the receiver has accepted it, wherever the configuration asks for background."""
    with environment(tmp_path / "state"), faulty() as server:
        server.go_wrong(status=status)
        monkeypatch.setenv("OPENLINEAGE__TRANSPORT", json.dumps(asynchronous(kind, server.url)))
        box: Any = open_lineage(settings("lineage", ""), "a-run")
        box.put(event(1, RunState.COMPLETE))
        counts = box.close(soon())

    assert (1, 0) == ((counts.sent, counts.spooled) if status == 200 else (counts.spooled, counts.sent))
    assert (status == 200) == len(server.events)


def test_asynchronous_by_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The same holds for a transport that is configured by one variable per value."""
    with environment(tmp_path / "state"), faulty() as server:
        server.go_wrong(status=503)
        monkeypatch.setenv("OPENLINEAGE__TRANSPORT__TYPE", "composite")
        monkeypatch.setenv("OPENLINEAGE__TRANSPORT__TRANSPORTS__A__TYPE", "async_http")
        monkeypatch.setenv("OPENLINEAGE__TRANSPORT__TRANSPORTS__A__URL", server.url)
        box: Any = open_lineage(settings("lineage", ""), "a-run")
        box.put(event(1, RunState.COMPLETE))
        counts = box.close(soon())

    assert (0, 1) == (counts.sent, counts.spooled)
