"""Secrets: what the owner has set in variables, URLs and headers is in no log line, event, span or tag."""

from __future__ import annotations

import base64
import html
import json
import logging
from pathlib import Path
from typing import Any
from urllib.parse import quote

import dagster as dg
import pytest
import structlog

from . import everything
from .endpoint import dead_url, serve
from .package import write_logs
from .runs import FAILURE, WITHOUT_NODES, run_recorded, send_recorded
from .test_attributes import as_dict

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


def test_forms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret is hidden in each form that a client may give it, and so are credentials in any URL."""
    secret = f"'{CONFIDENTIAL}'</>"
    monkeypatch.setenv("SHOP_PASSWORD", secret)
    forms = [
        secret,
        quote(secret, ""),
        quote(secret, "").lower(),
        quote(secret),
        repr(secret),
        html.escape(secret),
        "".join(f"&#{ord(character)};" if not character.isalnum() else character for character in secret),
        "".join(f"\\u{ord(character):04X}" if not character.isalnum() else character for character in secret),
        secret.replace("'", "''"),
        base64.b64encode(f"floe:{secret}".encode()).decode(),
        base64.urlsafe_b64encode(f"shop-1:{secret}".encode()).decode(),
    ]
    with serve() as endpoint:
        text = " ; ".join([*forms, f"...{secret[4:]}", f"https://{'someone'}:else@example.com"])
        run_recorded(tmp_path, lineage_url=endpoint.url, otlp_url=endpoint.url, added_text=f"says {text}")

    [event] = [event for event in endpoint.events if event["job"]["name"] == "model.shop.broken" and is_end(event)]
    message = event["run"]["facets"]["errorMessage"]["message"].partition("says ")[2].partition("\n")[0]
    [span] = [span for span in endpoint.spans if span.name == "model.shop.broken"]
    shown = message.split(" ; ")
    assert [form for form, text in zip(forms, shown, strict=False) if "[hidden]" not in text or secret in text] == []
    assert shown[-1].startswith("https://[hidden]@example.com")
    assert message in span.status.message


def test_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A secret that is an ordinary word is hidden behind a word such as password, also as a field of a log line."""
    monkeypatch.setenv("SHOP_PASSWORD", "sesame")
    with serve() as endpoint:
        run_recorded(tmp_path, lineage_url=endpoint.url, added_text="with password=sesame, open sesame")
    value = "sesame"
    structlog.get_logger("shop").warning("opened", password=value, door=value)

    [line] = [json.loads(line) for line in capsys.readouterr().err.splitlines() if '"opened"' in line]
    assert "with password=[hidden], open sesame" in str(endpoint.events)
    assert (line["password"], line["door"]) == ("[hidden]", "sesame")


def test_own_asset(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dagster's event log has no secret of an exception, also if the asset runs no dbt."""
    monkeypatch.setenv("SHOP_PASSWORD", CONFIDENTIAL)
    write_logs()

    @dg.asset
    def own() -> None:
        raise RuntimeError(f"not {CONFIDENTIAL}")

    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize([own], instance=instance, raise_on_error=False)
        events = "".join(map(dg.serialize_value, instance.all_logs(result.run_id)))

    assert "not [hidden]" in events
    assert CONFIDENTIAL not in events


def test_colors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither colors within a secret nor an exception's text show it in the log."""
    monkeypatch.setenv("SHOP_PASSWORD", CONFIDENTIAL)
    run_recorded(tmp_path)
    half = len(CONFIDENTIAL) // 2
    colored = f"{CONFIDENTIAL[:half]}\x1b[0m{CONFIDENTIAL[half:]}"
    try:
        raise ValueError(f"not {CONFIDENTIAL}")
    except ValueError:
        logging.getLogger("some.library").exception("no connection for %s", colored)

    written = capsys.readouterr().err
    assert "no connection for [hidden]" in written
    assert "not [hidden]" in written
    assert CONFIDENTIAL not in written


def test_sql(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQL that is traced has no secret in it, and neither has any other attribute of a span."""
    monkeypatch.setenv("FLOE_TRACE_SQL", "1")
    monkeypatch.setenv("SHOP_PASSWORD", CONFIDENTIAL)
    changed = everything.recording(f"create user shop identified by '{CONFIDENTIAL}'")
    changed["nodes"]["model.shop.orders"]["original_file_path"] = f"models/{CONFIDENTIAL}.sql"
    sent = send_recorded(
        tmp_path, recording=changed, context={"has_partition_key": True, "partition_key": CONFIDENTIAL}
    )
    statement, orders = (as_dict(sent.span(name).attributes) for name in ("CREATE", "model.shop.orders"))

    assert statement["db.query.text"] == "/* by dbt */ create user shop identified by '[hidden]'"
    assert orders["code.file.path"] == "models/[hidden].sql"
    assert CONFIDENTIAL not in str(sent.spans)


def test_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception, which Dagster records with its causes, has no secret in it, and nor has the run's end."""
    monkeypatch.setenv("SHOP_PASSWORD", CONFIDENTIAL)
    first, cause = (ValueError(f"{word} {CONFIDENTIAL}") for word in ("not", "no connection for"))
    error = dg.Failure(f"dbt failed with {CONFIDENTIAL}")
    error.__cause__, cause.__context__ = cause, first
    sent = send_recorded(tmp_path, recording=WITHOUT_NODES, error=error)

    assert error.description == "dbt failed with [hidden]"
    assert (str(cause), str(first)) == ("no connection for [hidden]", "not [hidden]")
    assert CONFIDENTIAL not in f"{error!r} {sent.events} {sent.spans}"


def test_error_without_secret(tmp_path: Path) -> None:
    """An exception without a secret stays as it was."""
    run_recorded(tmp_path, recording=WITHOUT_NODES)

    assert FAILURE.args == ("dbt ended with exit code 1",)


def is_end(event: dict[str, Any]) -> bool:
    """Return whether an event is the end of a run."""
    return bool(event["eventType"] != "START")
