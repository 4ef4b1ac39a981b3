"""Secrets: what the owner has set in variables, URLs and headers is in no log line, event, span or tag."""

from __future__ import annotations

from pathlib import Path

import pytest

from .endpoint import serve
from .runs import run_recorded

CONFIDENTIAL = "n0t-f0r-the-l0g$"
# A variable, and its text with {} for the secret.
SECRETS = {
    "key for lineage": ("OPENLINEAGE_API_KEY", "{}"),
    "header for traces": ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20{}"),
    "password in a URL": ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://floe:{}@127.0.0.1:9/v1/metrics"),
    "password of the warehouse": ("SHOP_PASSWORD", "{}"),
}


@pytest.mark.parametrize("kind", SECRETS)
def test_hidden(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """An error message of dbt's with the secret in it leaves without it, whatever way it leaves by."""
    variable, text = SECRETS[kind]
    monkeypatch.setenv(variable, text.format(CONFIDENTIAL))
    with serve() as endpoint:
        tags = run_recorded(
            tmp_path, lineage_url=endpoint.url, otlp_url=endpoint.url, error_text=f"for {CONFIDENTIAL} of orders"
        )

    written = capsys.readouterr()
    kept = "".join(file.read_text() for file in (tmp_path / "state").rglob("*") if file.is_file())
    messages = [str(endpoint.events), str(endpoint.spans)]
    assert all("for [hidden] of orders" in message for message in messages)
    assert "floe_tests" in written.err
    texts = (*messages, kept, str(tags), written.out, written.err)
    assert not any(CONFIDENTIAL in text for text in texts)


def test_ordinary_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret that is also an ordinary word hides nothing where that word stands."""
    monkeypatch.setenv("SHOP_PASSWORD", "orders")
    with serve() as endpoint:
        run_recorded(tmp_path, lineage_url=endpoint.url)

    assert "model.shop.orders" in {event["job"]["name"] for event in endpoint.events}
