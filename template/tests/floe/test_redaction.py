"""Secrets: what the owner has set in variables, URLs and headers is in no log line, event, span or tag."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from .endpoint import dead_url, serve
from .runs import run_recorded

CONFIDENTIAL = "n0t-f0r-the-l0g$"
# A variable, and its text with {} for the secret, and for the endpoint's port.
SECRETS = {
    "key for lineage": ("OPENLINEAGE_API_KEY", "{}"),
    "header for traces": ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20{}"),
    "password in a URL": ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://floe:{}@127.0.0.1:{}/v1/metrics"),
    "password of the warehouse": ("SHOP_PASSWORD", "{}"),
}


@pytest.mark.parametrize("kind", SECRETS)
def test_hidden(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A message of dbt's and SQL with the secret in them leave without it, whatever way they leave by."""
    variable, text = SECRETS[kind]
    with serve() as endpoint:
        monkeypatch.setenv(variable, text.format(CONFIDENTIAL, endpoint.server_port))
        tags = run_recorded(
            tmp_path, lineage_url=endpoint.url, otlp_url=endpoint.url, added_text=f"for {CONFIDENTIAL} of orders"
        )
    logging.getLogger("some.library").warning("no connection for %s of orders", CONFIDENTIAL)

    written = capsys.readouterr()
    texts = [str(endpoint.events), str(endpoint.spans), written.err]
    assert all("for [hidden] of orders" in text for text in texts)
    assert not any(CONFIDENTIAL in text for text in (*texts, str(tags), written.out))


def test_hidden_in_warning(
    tmp_path: Path, state_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The warning that an endpoint is dead, and what is kept for it, do without the password in its URL."""
    url = dead_url().replace("//", f"//floe:{CONFIDENTIAL}@")
    monkeypatch.setenv("OPENLINEAGE_URL", url)
    run_recorded(tmp_path, lineage_url=url, added_text=f"for {CONFIDENTIAL} of orders")

    written = capsys.readouterr()
    kept = "".join(file.read_text() for file in state_folder.rglob("*") if file.is_file())
    assert "spooled" in written.err
    assert "for [hidden] of orders" in kept
    assert not any(CONFIDENTIAL in text for text in (kept, written.out, written.err))


def test_ordinary_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret that is also an ordinary word hides nothing where that word stands."""
    monkeypatch.setenv("SHOP_PASSWORD", "orders")
    with serve() as endpoint:
        run_recorded(tmp_path, lineage_url=endpoint.url)

    assert "model.shop.orders" in {event["job"]["name"] for event in endpoint.events}
