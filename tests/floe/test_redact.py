"""Tests of redaction: every kind and form of secret is redacted wherever text leaves, and ordinary text stays."""

from __future__ import annotations

import base64
import html
import json
import logging
import re
import subprocess
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote, quote_plus

import dagster as dg
import pytest
from openlineage.client import OpenLineageClient
from openlineage.client.event_v2 import Job, Run, RunEvent, RunState
from openlineage.client.facet_v2 import error_message_run
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from pipeline.floe import logs, redact
from pipeline.floe.cli import doctor
from pipeline.floe.cli.doctor import project as checks
from pipeline.floe.cli.doctor.finding import Finding
from pipeline.floe.dbt.catalog import CatalogError, catalog_file
from pipeline.floe.dbt.node_events import CommandStarted, NodeFinished, Outcome
from pipeline.floe.dbt.profile import ProfileError, describe_missing_connection, read_output
from pipeline.floe.delivery.diagnosis import EndpointError
from pipeline.floe.lineage.endpoint import lineage_client
from pipeline.floe.lineage.outbox import Outbox
from pipeline.floe.redact import redaction
from pipeline.floe.redact.secret_values import is_credential, read_secrets
from pipeline.floe.run import observe
from pipeline.floe.settings import Settings
from pipeline.floe.settings import settings as default
from pipeline.floe.step import Step
from pipeline.floe.tracing.attributes import Statement
from pipeline.floe.tracing.spans import Handoff, SpanBuilder

from tests.faults.drive import quiet
from tools.rendering import TARGETS, facts

SECRET = """s3cr3t é"'/+&%<x> {1}"""
USER = "analyst"
RUN_ID = "3af8618d-af6f-4b71-be87-6c928a10eb2d"
NOW = datetime(2026, 11, 23, tzinfo=UTC)
PROFILE = """
pipeline:
  outputs:
    local:
      type: postgres
      host: "{{ env_var('WAREHOUSE_HOST', 'db.example.com') }}"
      schema: sales_data_2024
      user: "{{ env_var('WAREHOUSE_USER') }}"
      pass: "{{ env_var('WAREHOUSE_PASSWORD') }}"
      role_pass: "{{ env_var('WAREHOUSE_LOGIN') }}"
"""

# Where a secret is set: a variable and the text that holds it, or the text of openlineage.yml.
KINDS: dict[str, tuple[str, str]] = {
    "variable of the target": ("MOTHERDUCK_TOKEN", SECRET),
    "key for lineage": ("OPENLINEAGE_API_KEY", SECRET),
    "URL for lineage": ("OPENLINEAGE_URL", f"http://{USER}:{quote(SECRET, safe='')}@127.0.0.1:9"),
    "URL for traces": ("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://{USER}:{quote(SECRET, safe='')}@127.0.0.1:9"),
    "headers for traces": ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", f"x-team=a,authorization=Bearer%20{quote(SECRET)}"),
    "dbt's secret variable": ("DBT_ENV_SECRET_GIT", SECRET),
    "header for lineage": ("OPENLINEAGE__TRANSPORT__HEADERS__X_TEAM", SECRET),
    "openlineage.yml": ("", SECRET),
    "variable of an own profile": ("WAREHOUSE_PASSWORD", SECRET),
}
FORMS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "in a URL": lambda secret: quote(secret, safe=""),
    "in a path": quote,
    "in a form": quote_plus,
    "in a URL, lower case": lambda secret: re.sub("%..", lambda found: found[0].lower(), quote(secret, safe="")),
    "in JSON": lambda secret: json.dumps(secret)[1:-1],
    "in JSON, as UTF-8": lambda secret: json.dumps(secret, ensure_ascii=False)[1:-1],
    "in JSON within JSON": lambda secret: json.dumps(json.dumps(secret))[3:-3],
    "as Python writes it": lambda secret: repr(secret)[1:-1],
    "as Python writes JSON": lambda secret: repr(json.dumps({"a": secret}))[8:-3],
    "as Python writes JSON, as UTF-8": lambda secret: repr(json.dumps({"a": secret}, ensure_ascii=False))[8:-3],
    "as Python writes it after a quote": lambda secret: repr('"' + secret)[2:-1],
    "in JSON of .NET": lambda secret: re.sub(r"[^\w {}/%]", lambda found: f"\\u{ord(found[0]):04X}", secret),
    "in JSON of Go": lambda secret: re.sub(
        "[&<>]", lambda found: f"\\u{ord(found[0]):04x}", json.dumps(secret, ensure_ascii=False)[1:-1]
    ),
    "in JSON of PHP": lambda secret: json.dumps(secret)[1:-1].replace("/", r"\/"),
    "in JavaScript": lambda secret: secret.replace("é", r"\u{e9}").replace("'", r"\'"),
    "in HTML": html.escape,
    "in HTML, as numbers": lambda secret: re.sub(r"[^\w {}]", lambda found: f"&#{ord(found[0]):03};", secret),
    "in HTML within HTML": lambda secret: html.escape(html.escape(secret)),
    "in XML": lambda secret: html.escape(secret, quote=False).replace("'", "&apos;"),
    "in SQL": lambda secret: secret.replace("'", "''"),
    "in CSV": lambda secret: secret.replace('"', '""'),
    "in braces of ODBC": lambda secret: secret.replace("}", "}}"),
    "in quotes of libpq": lambda secret: secret.replace("'", r"\'"),
    "in a shell": lambda secret: secret.replace("'", """'"'"'"""),
    "twice in a URL": lambda secret: quote(quote(secret, safe=""), safe=""),
    "in a URL within JSON of Go": lambda secret: quote(secret, safe="&+").replace("&", r"\u0026"),
    "in base64": lambda secret: base64.b64encode(secret.encode()).decode(),
    "in base64, with a user": lambda secret: base64.b64encode(f"{USER}:{secret}".encode()).decode(),
    "in base64, as Latin-1": lambda secret: base64.b64encode(f"{USER}:{secret}".encode("latin-1")).decode(),
    "in base64, without padding": lambda secret: base64.b64encode(f"me:{secret}".encode()).decode().rstrip("="),
}


def log(text: str) -> str:
    """Return what is logged: a message, a field, and an exception, as JSON."""
    try:
        raise ConnectionError(text)
    except ConnectionError as error:
        info = (type(error), error, error.__traceback__)
    record = logging.LogRecord("some.library", logging.WARNING, __file__, 1, text, (), info)
    line = json.loads(logs.formatter().format(record))
    return f"{line['event']}\n{line['exception'][0]['exc_value']}"


def event_log(text: str) -> str:
    """Return what Dagster stores of a run in which dbt could not be started."""

    def cli(*_: object, **__: object) -> None:
        raise dg.Failure(description=text) from ConnectionError(text)

    @dg.asset
    def broken(context) -> Any:  # type: ignore[no-untyped-def]
        yield from observe(
            SimpleNamespace(cli=cli, dbt_executable="dbt", profile=None, target=None), ["build"], context
        )

    with dg.DagsterInstance.ephemeral() as instance, quiet():
        result = dg.materialize([broken], instance=instance, raise_on_error=False)
        events = instance.all_logs(result.run_id)
    failed = next(each.dagster_event for each in events if each.dagster_event and each.dagster_event.is_step_failure)
    error = failed.step_failure_data.error
    assert error is not None
    messages, cause = "", error.cause
    while cause:
        messages, cause = messages + cause.message, cause.cause
    assert "the text" in messages
    return messages + "\n".join(each.user_message for each in events) + repr(failed.step_failure_data.user_failure_data)


def lineage(text: str, folder: Path) -> str:
    """Return the message within the event that a receiver gets."""
    file = folder / "events.json"
    config = {"transport": {"type": "file", "log_file_path": str(file), "append": True}}
    outbox = Outbox(OpenLineageClient(config=config), folder / "lineage", RUN_ID)
    facet = error_message_run.ErrorMessageRunFacet(message=text, programmingLanguage="sql")
    run = Run(RUN_ID, {"errorMessage": facet})
    outbox.put(RunEvent(eventTime=NOW.isoformat(), eventType=RunState.COMPLETE, run=run, job=Job("shop", "x")))
    outbox.close(time.monotonic() + 10)
    message: str = json.loads(file.read_text())["run"]["facets"]["errorMessage"]["message"]
    return message


def spans(text: str) -> str:
    """Return the SQL that a span has."""
    ended: list[ReadableSpan] = []
    step = Step(run_id=RUN_ID, job_name="daily", key="dbt", attempt=0, run_started_at=NOW)
    tracing = SpanBuilder(step, Resource({}), Handoff(ended.append))
    tracing.record(CommandStarted(at=NOW, invocation_id=RUN_ID))
    node = NodeFinished(
        at=NOW,
        unique_id="model.shop.x",
        resource_type="model",
        invocation_id=RUN_ID,
        outcome=Outcome.SUCCESS,
        status="success",
    )
    tracing.record(node, statements=[Statement(text=text, started_at=NOW, finished_at=NOW)])
    return str((ended[0].attributes or {})["db.query.text"])


def findings(text: str) -> str:
    """Return what the doctor says."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(doctor, "CHECKS", (("project", "state"),))
        patch.setattr(checks, "state", lambda *_: iter([Finding("state", "fail", text, text)]))
        (finding,) = doctor.examine(default)
    return f"{finding.message}\n{finding.detail}"


PLACES: dict[str, Callable[..., str]] = {
    "log": log,
    "event log": event_log,
    "lineage": lineage,
    "spans": spans,
    "doctor": findings,
}


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Settings:
    """Use a profile of the owner's own, JSON logs, and a state folder of the test's own."""
    (tmp_path / "profiles.yml").write_text(PROFILE)
    own = replace(default, dbt_profiles_dir=tmp_path, secret_variables=("MOTHERDUCK_TOKEN", "OPENLINEAGE_API_KEY"))
    monkeypatch.setattr(redaction, "settings", own)
    monkeypatch.setenv("LOG_FORMAT", "json")
    monkeypatch.setenv("FLOE_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("WAREHOUSE_USER", USER)
    return own


@pytest.fixture
def secret(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """Set a secret of the parameter's kind."""
    name, value = KINDS[request.param]
    if name:
        monkeypatch.setenv(name, value)
    else:
        file = tmp_path / "openlineage.yml"
        auth = {"type": "api_key", "apiKey": value}
        file.write_text(json.dumps({"transport": {"type": "http", "url": "http://127.0.0.1:9", "auth": auth}}))
        monkeypatch.setenv("OPENLINEAGE_CONFIG", str(file))
    return str(request.param)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Dagster's own, of `context.run_id`
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("secret", KINDS, indirect=True)
def test_hidden(secret: str, place: str, tmp_path: Path) -> None:
    """No kind of value in any form stands anywhere that text leaves by; the words around it do."""
    text = "\n".join(f"the text has ({form(SECRET)}) {name}" for name, form in FORMS.items())
    out = PLACES[place](text, *([tmp_path] if place == "lineage" else []))

    assert [] == [name for name, form in FORMS.items() if form(SECRET) in out], secret
    assert [] == [name for name in FORMS if f"the text has ([hidden]) {name}" not in out], out


LINES = "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG\nw0BAQEFAASCBKcwggSj\n-----END KEY-----\n"


KEYFILE = json.dumps({"private_key": LINES, "project": "shop-prod-1"})


@pytest.mark.parametrize("value", [LINES, LINES.replace("\n", "\\n"), KEYFILE])
def test_lines(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """A single line of a value with several is hidden too, and so is a key within JSON; its other entries are not."""
    monkeypatch.setenv("DBT_ENV_SECRET_KEYFILE", value)

    assert "a [hidden] b [hidden] c" == redact.redact("a MIIEvQIBADANBgkqhkiG b w0BAQEFAASCBKcwggSj c")
    assert "project shop-prod-1" == redact.redact("project shop-prod-1")


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("WAREHOUSE_LOGIN", "f00-bar-17", "f00-bar-17"),  # the key of the profile says that it is secret
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Basic YTpmMDAtYmFyLTE3", "f00-bar-17"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Basic YWI6ZjAwLWJhci0xNw", "f00-bar-17"),  # without padding
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Basic YTpmMDAtYuRy", "f00-b\u00e4r"),  # Latin-1
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Basic f00-b\u00e4r-17", "f00-b\u00e4r-17"),  # not base64
        ("OPENLINEAGE__TRANSPORT", '{"auth": {"apiKey": "f00-bar-17"}}', "f00-bar-17"),
        ("OPENLINEAGE_URL", "http://f00-bar-17@host", "http://f00-bar-17@host"),
        ("OPENLINEAGE_URL", "http://me:f00/b@r-17@host", "f00/b@r-17"),
        ("OPENLINEAGE_URL", "me:f00-bar-17@host:5000", "f00-bar-17"),
        ("DUCKDB_PATH", "md:shop?motherduck_token=f00-bar-17", "f00-bar-17"),
        ("OPENLINEAGE__TRANSPORT", '\n {"auth": {"apiKey": "f00-bar-17"}}', "f00-bar-17"),
        ("OPENLINEAGE__TRANSPORT__TRANSPORTS", '[{"auth": {"apiKey": "f00-bar-17"}}]', "f00-bar-17"),
        ("OPENLINEAGE__TRANSPORT", '{"custom_headers": {"X-Tenant": "f00-bar-17"}}', "f00-bar-17"),
        ("OPENLINEAGE__TRANSPORT__TRANSPORTS", '[{"custom_headers": {"X-Tenant": "f00-bar-17"}}]', "f00-bar-17"),
        ("OPENLINEAGE__TRANSPORT__TRANSPORTS__MY-OWN__CUSTOM_HEADERS__X-Tenant", "f00-bar-17", "f00-bar-17"),
        ("ENCRYPTION_KEYS", "0th-er-18,f00-bar-17", "f00-bar-17"),
        ("ENCRYPTION_KEYS", '["0th-er-18", "f00-bar-17"]', "f00-bar-17"),
        ("MASTER_KEY1", "f00-bar-17", "f00-bar-17"),
        ("WAREHOUSE_PASSWORD", "'f00-bar-17'", "f00-bar-17"),  # as Docker reads a file of variables
        ("HTTPS_PROXY", "me:f00-bar-17@proxy:3128", "f00-bar-17"),
        ("https_proxy", "http://me:f00/b@r-17@proxy:3128", "f00/b@r-17"),
        ("ELSEWHERE", "me:f00-bar-17@proxy", "f00-bar-17"),
        ("ELSEWHERE", "http://me:f00-bar-17@host/path@2", "f00-bar-17"),
        ("ELSEWHERE", "jdbc:postgresql://me:f00/bar-17@host/shop", "f00/bar-17"),
        ("ELSEWHERE", "http://a.net,postgres://me:f00/bar-17@host/shop, http://b.net", "f00/bar-17"),
        ("ELSEWHERE", '["http://me:f00/bar-17@host", "http://me:0th-er-18@host"]', "f00/bar-17"),
        ("ELSEWHERE", "AccountKey=f00-bar-17==;AccountName=me", "f00-bar-17=="),
        ("ELSEWHERE", "host=db user=me password='f00 bar-17' port=1", "f00 bar-17"),
        ("ELSEWHERE", "-Xmx1g -Dapp.password=f00-bar-17 -v", "f00-bar-17"),
        ("WAREHOUSE_PASSWORD", "Bearer f00-bar-17", "f00-bar-17"),
        ("HTTP_AUTHORIZATION", "bearer  f00-bar-17", "f00-bar-17"),
        ("HTTP_AUTHORIZATION", "Basic YTpmMDAtYmFyLTE3", "f00-bar-17"),
        ("MY_AUTH_HEADER", "Token f00-bar-17", "f00-bar-17"),
        ("ELSEWHERE", r"host=db password='b4r\'17 f00' port=1", "b4r'17 f00"),
        ("ELSEWHERE", r"host=db password = 'b4r\\17 f00'", r"b4r\17 f00"),
        ("ELSEWHERE", "Driver={ODBC 18};Pwd={b4r;17-f00}", "b4r;17-f00"),
        ("ELSEWHERE", "Driver={ODBC 18}; Pwd = {b4r;1}}7-f00};Uid=me", "b4r;1}7-f00"),
        ("ELSEWHERE", "Driver={ODBC 18};Pwd=b4r#17-f00;Uid=me", "b4r#17-f00"),
        ("ELSEWHERE", "Driver={ODBC 18};Pwd=b4r&17-f00;Uid=me", "b4r&17-f00"),
        ("ELSEWHERE", "Server=db;Password=b4r 17-f00;User Id=me", "b4r 17-f00"),
        ("ELSEWHERE", 'Server=db;Password="b4r;1""7-f00";User Id=me', 'b4r;1"7-f00'),
        ("ELSEWHERE", "Server=db;Password='b4r;1''7-f00';User Id=me", "b4r;1'7-f00"),
        ("ELSEWHERE", "Server=db;Shared Access Key=b4r 17-f00", "b4r 17-f00"),
        ("WAREHOUSE_PASSWORD", "Driver={ODBC 18};Pwd={b4r;17-f00}", "b4r;17-f00"),
        ("ELSEWHERE", "https://me.blob.net/x?sv=1&sig=b4r%2B17%2Ff00%3D", "b4r+17/f00="),
        ("ELSEWHERE", "sv=1&sig=b4r%2B17%2Ff00%3D", "b4r%2B17%2Ff00%3D"),
        ("ELSEWHERE", "https://s3.net/x?X-Amz-Signature=f00bar0017&X-Amz-Date=1", "f00bar0017"),
        ("OTEL_RESOURCE_ATTRIBUTES", "app.name=x,app.api_key=f00%2Dbar-17,app.team=y", "f00-bar-17"),
    ],
)
def test_other_places(monkeypatch: pytest.MonkeyPatch, name: str, value: str, text: str) -> None:
    """Less usual ways to set a secret."""
    monkeypatch.setenv(name, value)

    assert "f00" not in redact.redact(f"no entry for {text}")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("GET https://s3.net/x?X-Amz-Signature=ab12&a=1", "GET https://s3.net/x?X-Amz-Signature=[hidden]&a=1"),
        ("'https://me.blob.net/x?sv=1&sig=a%2Bb%3D'", "'https://me.blob.net/x?sv=1&sig=[hidden]'"),
        (r'"https://me.blob.net/x?sv=1\u0026sig=a%2Bb"', r'"https://me.blob.net/x?sv=1\u0026sig=[hidden]"'),
        ("https://me.blob.net/x?sv=1&amp;sig=a%2Bb<", "https://me.blob.net/x?sv=1&amp;sig=[hidden]<"),
        ("https://storage.net/x?X-Goog-Signature=0fab", "https://storage.net/x?X-Goog-Signature=[hidden]"),
        ("https://a.net: design=1, signature=2", "https://a.net: design=1, signature=2"),
    ],
)
def test_signature(text: str, shown: str) -> None:
    """The signature in the URL of a file is hidden, although no variable has it: a client makes such URLs itself."""
    assert shown == redact.redact(text)


def test_time_of_connection_strings(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time to read a long variable grows with its length, also if no quote and no brace in it has an end."""
    for name, entry in {"A": ";pwd={a", "B": " a='b", "C": ';pwd="a', "D": ";pwd a", "E": ";a=b c&d"}.items():
        monkeypatch.setenv(f"ELSEWHERE_{name}", entry * 1_000)

    began = time.process_time()
    redact.redactor()

    assert time.process_time() - began < 5


def test_nested_too_deeply(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable whose JSON is nested too deeply to be read does not break the redactor."""
    monkeypatch.setenv("WAREHOUSE_PASSWORD", "f00-bar-17")
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT", "[" * 20_000)

    assert "no [hidden]" == redact.redact("no f00-bar-17")


def test_half_of_a_surrogate_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret that no encoding has, as JSON can write it, does not break the redactor."""
    monkeypatch.setenv("WAREHOUSE_PASSWORD", "f00-bar-17")
    monkeypatch.setenv("DBT_ENV_SECRET_KEYFILE", r'{"private_key": "\ud800n0t-f0r-u"}')

    assert "no [hidden], no [hidden]" == redact.redact("no f00-bar-17, no \ud800n0t-f0r-u")


def test_short_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line of six characters or more is hidden; a shorter one, or a short one of JSON, is ordinary text."""
    monkeypatch.setenv("WAREHOUSE_PASSWORD", "f00-b1\r\nb4r-18\nx-1")
    monkeypatch.setenv("DBT_ENV_SECRET_KEYFILE", '{\n"a": 1,\n"private_key": "n0t-f0r-u"\n}')

    assert 'a [hidden] b [hidden] c x-1 d [hidden], "a": 1,' == redact.redact(
        'a f00-b1 b b4r-18 c x-1 d n0t-f0r-u, "a": 1,'
    )


LONG = "".join(f"Qz{number:03}'" for number in range(20))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"LINE 5: select '{LONG[:50]}...", "LINE 5: select '[hidden]..."),
        (f"LINE 5: ...{LONG[50:]}' as x", "LINE 5: ...[hidden]' as x"),
        (f"LINE 5: ...{LONG[50:].replace(chr(39), chr(39) * 2)}' as x", "LINE 5: ...[hidden]' as x"),
        (f"LINE 5: ...{LONG[30:80]}...", "LINE 5: ...[hidden]..."),
        (f"{LONG[:12]} [...] {LONG[-12:]}", "[hidden] [...] [hidden]"),
        (f"{LONG[:12]}… and …{LONG[-12:]}", "[hidden]… and …[hidden]"),
        ("...abl3-f00 b", "...[hidden] b"),  # of a shorter secret as well
        # Ordinary text, and too little to tell.
        (
            "1 of 3 START sql table model main.orders ........ [RUN]",
            "1 of 3 START sql table model main.orders ........ [RUN]",
        ),
        (f"...{LONG[-5:]} and so on...", f"...{LONG[-5:]} and so on..."),
        ("... ... ...", "... ... ..."),
    ],
)
def test_cut(monkeypatch: pytest.MonkeyPatch, text: str, shown: str) -> None:
    """A part of a secret is hidden beside an ellipsis, where a database has cut its message."""
    monkeypatch.setenv("WAREHOUSE_PASSWORD", LONG)
    monkeypatch.setenv("WAREHOUSE_LOGIN", "unus-abl3-f00")

    assert shown == redact.redact(text)


def test_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys of mappings, tuples, sets, bytes and other objects of a log line have no secret; clean ones stay."""
    monkeypatch.setenv("WAREHOUSE_PASSWORD", "f00-b\u00e4r-17")
    record = {
        "rows f00-b\u00e4r-17": 1,
        "pair": ("f00-b\u00e4r-17", 2),
        "set": {"f00-b\u00e4r-17"},
        "bytes": "f00-b\u00e4r-17".encode(),
        "error": ValueError("f00-b\u00e4r-17"),
        "at": NOW,
    }

    assert redact.redact_values(record) == {
        "rows [hidden]": 1,
        "pair": ("[hidden]", 2),
        "set": "{'[hidden]'}",
        "bytes": b"[hidden]",
        "error": "ValueError('[hidden]')",
        "at": NOW,
    }


def test_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Text that resembles a secret in its parts takes no longer, nor does a text that repeats one."""
    monkeypatch.setenv("DBT_ENV_SECRET_BRACES", f"ab{'}' * 40}-")
    monkeypatch.setenv("WAREHOUSE_PASSWORD", "\\\\'\"\\\\ab''\\\\ %25%25 \\x")
    monkeypatch.setenv("DBT_ENV_SECRET_KEYFILE", json.dumps({"private_key": "MII/+'" * 400}))
    hide = redact.redactor()
    hide("MII ab ...")  # compiles the patterns of both, once
    texts = [
        "\\" * 2_000 + "ab",
        "ab%25" * 400,
        "'\"" * 1_000 + "ab",
        "MII/+' ..." * 200,
        "MII/+'" * 399,
        "ab" + "}" * 4_000,
    ]

    began = time.process_time()
    for text in texts:
        hide(text)

    assert time.process_time() - began < 1


@pytest.mark.parametrize("value", ["2024-05-06", "2024-05-06T07:08:09Z", "0012345670", "1_000_000_000_000", "1.50e12"])
def test_yaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """A secret that YAML reads as a date or a number is hidden as it is written in the file."""
    (tmp_path / "openlineage.yml").write_text(f"transport: {{type: http, auth: {{apiKey: {value}}}}}\n")
    monkeypatch.setenv("OPENLINEAGE_CONFIG", str(tmp_path / "openlineage.yml"))

    assert "401 for key=[hidden]" == redact.redact(f"401 for key={value}")


def test_yaml_headers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Headers are hidden under each key that names them; `custom_headers` is that of OpenLineage's client."""
    text = "transport: {type: http, custom_headers: {X-Tenant: f00-bar-17}, headers: {X-Team: 0th-er-18}}\n"
    (tmp_path / "openlineage.yml").write_text(text)
    monkeypatch.setenv("OPENLINEAGE_CONFIG", str(tmp_path / "openlineage.yml"))

    assert "[hidden] and [hidden] of http" == redact.redact("f00-bar-17 and 0th-er-18 of http")


def test_yaml_null(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry without a value is no secret."""
    (tmp_path / "openlineage.yml").write_text("transport: {type: http, auth: {apiKey: null, token: true}}\n")
    monkeypatch.setenv("OPENLINEAGE_CONFIG", str(tmp_path / "openlineage.yml"))

    assert "password: null, token=true" == redact.redact("password: null, token=true")


@pytest.mark.parametrize("padding", ["", "="])
def test_plain_in_base64(monkeypatch: pytest.MonkeyPatch, padding: str) -> None:
    """A plain secret is hidden in a header of its user, with padding or without, in either encoding."""
    monkeypatch.setenv("WAREHOUSE_PASSWORD", "zw\u00f6lf")
    for encoding in ("utf-8", "latin-1"):
        header = base64.b64encode(f"{USER}:zw\u00f6lf".encode(encoding)).decode()

        assert header.rstrip("=") not in redact.redact(f"Basic {header.rstrip('=')}{padding}")


@pytest.mark.parametrize(
    "escape",
    [
        lambda word: quote(word, safe=""),
        lambda word: quote(word, safe="").replace("%2B", "%2b").replace("%2F", "%2f"),
        lambda word: word.replace("/", r"\/"),
    ],
    ids=["URL", "URL, lower case", "JSON"],
)
@pytest.mark.parametrize("user", ["", "me:", "you:"])
def test_escaped_base64(monkeypatch: pytest.MonkeyPatch, user: str, escape: Callable[[str], str]) -> None:
    """A secret in base64 is hidden as well where a URL or JSON escapes characters of its base64 form."""
    secret = "f00~~??>>\u00bf\u00ff-bar\u00ff\u00ff"
    monkeypatch.setenv("WAREHOUSE_PASSWORD", secret)
    encoded = base64.b64encode(f"{user}{secret}".encode()).decode()
    assert "/" in encoded
    assert "+" in encoded

    assert "GET /x?auth=[hidden]&page=2" == redact.redact(f"GET /x?auth={escape(encoded)}&page=2").replace("%3D", "")


KEY = "-----BEGIN PRIVATE KEY-----\nf00f00f00f00\nb4rb4rb4rb4r\n-----END PRIVATE KEY-----\n"


@pytest.mark.parametrize("text", [KEY, json.dumps({"type": "service_account", "private_key": KEY})])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.encodebytes])
def test_key_in_base64(monkeypatch: pytest.MonkeyPatch, text: str, encode: Callable[[bytes], bytes]) -> None:
    """A key that a variable holds in base64 is hidden as text as well, because its client decodes it."""
    monkeypatch.setenv("WAREHOUSE_PASSWORD", encode(text.encode()).decode())
    shown = redact.redact(f"Could not parse {KEY!r} of service_account: line f00f00f00f00")

    assert not [part for part in ("f00f00", "b4rb4r") if part in shown]
    assert "of service_account: line [hidden]" in shown


PLAIN = [
    # The value of POSTGRES_PASSWORD, and sentences that must stay as they are.
    ("postgres", 'relation "postgres"."public"."orders" does not exist'),
    ("postgres", "postgres://db.example.com:5432, /srv/postgres/data, postgresql"),
    ("postgres", 'password authentication failed for user "postgres"'),
    ("postgres", "select * from settings where key = 'postgres' and s.key='postgres'"),
    ("x", "the next example: x = 1, f(x), xml"),
    ("x", "Parser Error: syntax error, unexpected token: x"),
    ("1234", "1234 rows in 0.1234 s"),
    ("admin", "admin is not allowed; administrator"),
    ("analytics", "schema analytics, model.shop.analytics"),
    ("sales_data_2024", "create table sales_data_2024.orders"),  # the profile's schema
    ("db.example.com", "could not connect to db.example.com:5432"),
    ("id", "unique_key: id, primary key (id)"),
]


@pytest.mark.parametrize(("value", "text"), PLAIN)
def test_readable(monkeypatch: pytest.MonkeyPatch, value: str, text: str) -> None:
    """A secret that is short, a word, or equal to a public setting leaves ordinary text as it is."""
    monkeypatch.setenv("WAREHOUSE_PASSWORD", value)

    assert text == redact.redact(text)


@pytest.mark.parametrize("value", ["postgres", "x", "sales_data_2024", "1234"])
@pytest.mark.parametrize(
    "text",
    [
        "password=%s",
        "password: '%s'",
        '{"password": "%s"}',
        "{'pass': '%s'}",
        '"{\\"token\\": \\"%s\\"}"',
        "PGPASSWORD=%s psql",
        "the password is %s",
        'password "%s" is wrong',
        "--password %s",
        "postgresql://analyst:%s@db/shop",
        "analyst:%s@db",
        "X-API-Key: %s",
        "Authorization: Bearer %s",
        "Server=db;Pwd={%s};Uid=me",
        "DB_PW=%s",
        "creds: %s",
    ],
)
def test_beside_a_sign(monkeypatch: pytest.MonkeyPatch, value: str, text: str) -> None:
    """Beside a sign of credentials such a secret is hidden, and only itself."""
    monkeypatch.setenv("WAREHOUSE_PASSWORD", value)
    out = redact.redact(text % value)

    assert out in {text % "[hidden]", "postgresql://[hidden]@db/shop", "[hidden]@db"}
    assert base64.b64encode(f"{USER}:{value}".encode()).decode() not in redact.redact(
        f"Basic {base64.b64encode(f'{USER}:{value}'.encode()).decode()}"
    )


def test_field(monkeypatch: pytest.MonkeyPatch) -> None:
    """The name of a field is a sign as well."""
    monkeypatch.setenv("WAREHOUSE_PASSWORD", "postgres")

    assert {"password": "[hidden]", "engine": "postgres"} == redact.redact_values(
        {"password": "postgres", "engine": "postgres"}
    )
    assert {"dagster.step.key": "postgres"} == redact.redact_values({"dagster.step.key": "postgres"})


@pytest.mark.parametrize("form", FORMS)
def test_json(monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    """Each form is seen within an event that is JSON already."""
    monkeypatch.setenv("WAREHOUSE_PASSWORD", SECRET)
    text = redact.redact_json(json.dumps({"message": FORMS[form](SECRET)}, ensure_ascii=False), redact.redactor())

    assert {"message": "[hidden]"} == json.loads(text)


def test_json_stays_json(monkeypatch: pytest.MonkeyPatch) -> None:
    """A number that looks like a secret does not break an event."""
    monkeypatch.setenv("WAREHOUSE_PASSWORD", "123456789012")
    text = redact.redact_json('{"rows":123456789012,"message":"123456789012"}', redact.redactor())

    assert {"rows": 123456789012, "message": "[hidden]"} == json.loads(text)


@pytest.mark.parametrize(
    "text",
    [
        "abfss://container@account.dfs.core.windows.net/orders",
        "git@github.com:org/shop.git",
        "basic authentication is off; the bearer of this",
        "token and password are not set",
    ],
)
def test_no_secret(text: str) -> None:
    """Text that only resembles credentials stays."""
    assert text == redact.redact(text)


def test_profile(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    """What an own profile reads is shown by name, and its secrets only as set."""
    monkeypatch.setenv("WAREHOUSE_PASSWORD", "hunter2")
    monkeypatch.setenv("WAREHOUSE_LOGIN", "hunter3")
    text = describe_missing_connection(replace(settings, dbt_target="local"))

    assert "WAREHOUSE_HOST (default), WAREHOUSE_USER=analyst, WAREHOUSE_PASSWORD (set), WAREHOUSE_LOGIN (set)" in text


NO_CREDENTIALS = [
    *("AUTHOR", "SPARK_AUTH", "AUTH_METHOD", "PW_BROWSERS", "COOKIE_SECURE", "CREDS_FILE", "SACRED", "GIT_SIGNATURE"),
    *("MONKEYS", "AWS_ACCESS_KEY_ID2", "DBT_PRIVATE_KEY_PATHS"),
    *(
        "PWD",
        "DBT_PRIVATE_KEY_PATH",
        "AWS_ACCESS_KEY_ID",
        "TOKEN_URL",
        "MONKEY",
        "MONKEYS",
        "ACCESS_KEY_ID2",
        "KEY_PATHS",
        "GOOGLE_APPLICATION_CREDENTIALS",
    ),
    *(name for target in TARGETS for name, told in facts(target)["variables"].items() if not told.get("secret")),
]
CREDENTIALS = [
    *("DB_PW", "DB_CREDS", "REDIS_AUTH", "SESSION_COOKIE", "HTTP_AUTHORIZATION", "MY_AUTH_HEADER"),
    *("ENCRYPTION_KEYS", "MASTER_KEY1", "MASTERKEYS", "DB_PASS2", "APP_KEY_2"),
    *(
        "DBT_ENV_SECRET_GIT_USER",
        "WAREHOUSE_PASS",
        "DBPASS",
        "SIGNINGKEY",
        "STORAGEKEY",
        "keyfile_json",
        "encryptionkey",
        "DB_PWD",
        "PGPASSWORD",
        "AWS_SECRET_ACCESS_KEY",
        "x-api-key",
        "apiKey",
    ),
    *(name for target in TARGETS for name, told in facts(target)["variables"].items() if told.get("secret")),
]


@pytest.mark.parametrize("name", sorted(set(NO_CREDENTIALS)))
def test_no_credential(name: str) -> None:
    """Names that only look as if their value were secret, and all variables of the targets that are not."""
    assert not is_credential(name)


@pytest.mark.parametrize("name", sorted(set(CREDENTIALS)))
def test_credential(name: str) -> None:
    """Names that say that their value is secret, and all variables of the targets that are."""
    assert is_credential(name)


def test_no_utf8(monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret that is no text is hidden all the same, and so is text that no UTF-8 can hold."""
    monkeypatch.setenv("WAREHOUSE_PASSWORD", "f00-b\udcffr-17")

    assert "no [hidden] \ud800" == redact.redact("no f00-b\udcffr-17 \ud800")
    assert {"a": "[hidden] \ud800"} == json.loads(
        redact.redact_json('{"a": "f00-b\\udcffr-17 \\ud800"}', redact.redactor())
    )


@pytest.mark.parametrize("variable", ["OPENLINEAGE_URL", "OTEL_EXPORTER_OTLP_ENDPOINT"])
@pytest.mark.parametrize(("user_info", "secret"), [("tok3nvalue99", "tok3nvalue99"), ("bob:passw0rd99", "passw0rd99")])
def test_endpoint_is_no_excuse(variable: str, user_info: str, secret: str) -> None:
    """A credential in an endpoint's URL is a secret, although the URL is a setting."""
    url = f"http://{user_info}@127.0.0.1:7300"
    field = {"OPENLINEAGE_URL": "openlineage_url", "OTEL_EXPORTER_OTLP_ENDPOINT": "otlp_endpoint"}[variable]

    secrets = read_secrets(replace(default, **{field: url}), {variable: url})

    assert secret in secrets.values
    assert not [setting for setting in secrets.settings if secret in setting]


def failed_process() -> Exception:
    """Return an error with a command and its output."""
    return subprocess.CalledProcessError(1, ["psql", "--password=f00-bar-17"], "f00-bar-17", b"f00-bar-17")


def noted() -> Exception:
    """Return an error with a note."""
    error = ValueError("x")
    error.add_note("f00-bar-17")
    return error


def context() -> Exception:
    """Return an error with a cause and another context."""
    error = ValueError("x")
    error.__context__, error.__cause__ = KeyError("f00-bar-17"), LookupError({"key": "f00-bar-17"})
    return error


ERRORS: dict[str, Callable[[], Exception]] = {
    "nested arguments": lambda: KeyError(("x", ["f00-bar-17"])),
    "process": failed_process,
    "note": noted,
    "cause and context": context,
    "group": lambda: ExceptionGroup("x", [ValueError("f00-bar-17"), ExceptionGroup("y", [OSError("f00-bar-17")])]),
    "file": lambda: OSError(2, "f00-bar-17", "/p/f00-bar-17", None, "/q/f00-bar-17"),
    "Failure": lambda: dg.Failure("f00-bar-17"),
    "import": lambda: ImportError("f00-bar-17"),
    "syntax": lambda: SyntaxError("f00-bar-17", ("x.py", 1, 1, "f00-bar-17")),
    "decoding": lambda: UnicodeDecodeError("utf-8", b"x", 0, 1, "f00-bar-17"),
}


@pytest.mark.parametrize("kind", ERRORS)
def test_errors(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever an exception consists of has no secret, and it is still the same exception."""
    monkeypatch.setenv("WAREHOUSE_PASSWORD", "f00-bar-17")
    error = ERRORS[kind]()
    redact.redact_error(error)

    shown = f"{traceback.format_exception(error)} {error.__context__!r} {vars(error)} {error!r}"
    assert "f00-bar-17" not in shown
    assert "[hidden]" in shown
    assert type(error) is type(ERRORS[kind]())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Dagster's own, of `context.run_id`
@pytest.mark.parametrize("is_group", [False, True])
def test_own_asset(is_group: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dagster's event log has no secret of an exception that an asset of the owner's own raises."""
    monkeypatch.setenv("WAREHOUSE_PASSWORD", "f00-bar-17")
    logs.write_logs()

    @dg.asset
    def own() -> None:
        try:
            raise ValueError("the f00-bar-17")
        except ValueError as error:
            raise (ExceptionGroup("a f00-bar-17", [error]) if is_group else RuntimeError("a f00-bar-17")) from error

    with dg.DagsterInstance.ephemeral() as instance, quiet():
        result = dg.materialize([own], instance=instance, raise_on_error=False)
        events = instance.all_logs(result.run_id)
    stored = "".join(map(dg.serialize_value, events))

    assert "f00-bar-17" not in stored
    assert "a [hidden]" in stored
    assert "the [hidden]" in stored


# What makes a YAML file invalid, each with the secret's text in the part that PyYAML quotes.
BROKEN_VALUES = [
    *("@S3cr-99", "%S3cr-99", "`S3cr-99", "*S3cr-99", "!S3cr-99 x", "&S3cr-99 *S3cr-99x"),
    *("S3cr-99: x: y", "'S3cr-99", '"S3cr-99', '"S3cr-99\\S"', "[S3cr-99", "S3cr-99\0"),
    *("S3cr-99\noops", "{S3cr-99", "|S3cr-99", "2024-13-45 # S3cr-99"),
]


@pytest.mark.parametrize("value", BROKEN_VALUES, ids=range(len(BROKEN_VALUES)))
def test_broken_yaml(value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    """An error about a file that is no YAML names the place, and neither it nor its causes quote the file."""
    (tmp_path / "profiles.yml").write_text(f"pipeline:\n  outputs:\n    local:\n      pass: {value}\n")
    (tmp_path / "dbt_project.yml").write_text(f"name: x\npass: {value}\n")
    (tmp_path / "openlineage.yml").write_text(f"transport:\n  type: http\n  auth:\n    apiKey: {value}\n")
    monkeypatch.setenv("OPENLINEAGE_CONFIG", str(tmp_path / "openlineage.yml"))
    own = replace(settings, dbt_project_dir=tmp_path)

    with pytest.raises(ProfileError, match=r"profiles\.yml cannot be read; correct it: ") as profile:
        read_output(own)
    with pytest.raises(EndpointError, match=r"openlineage\.yml cannot be read; correct it: ") as endpoint:
        lineage_client(own)
    with pytest.raises(CatalogError, match=r"dbt_project\.yml") as project:
        catalog_file(tmp_path)

    for raised in (profile, endpoint, project):
        assert "S3cr-99" not in "".join(traceback.format_exception(raised.value))
        error: BaseException | None = raised.value
        while error:  # nor does an error that a traceback leaves out, which Dagster stores
            assert "S3cr-99" not in str(error)
            error = error.__cause__ or error.__context__


def test_broken_yaml_place(tmp_path: Path, settings: Settings) -> None:
    """The message has PyYAML's problem and its place."""
    (tmp_path / "profiles.yml").write_text("a: 1\nb: {c: [d}\n")

    with pytest.raises(ProfileError, match=re.escape("expected ',' or ']', but got '}', line 2, column 10")):
        read_output(settings)


@pytest.mark.parametrize(
    "line",
    ["pass: @S3cr-99", "{type: x, pass: @S3cr-99, user: me}", "'token': '@S3cr-99", "pass: @S3cr-99 # x"],
)
def test_secrets_of_broken_yaml(line: str, tmp_path: Path) -> None:
    """The redactor knows the secrets of a file that is no YAML: dbt's own error about it quotes the lines."""
    text = f"pipeline:\n  password: f00-bar-17\n  custom_headers:\n    x-team: b4r-f00-18\n  host: db-1.net\n  {line}\n"
    (tmp_path / "profiles.yml").write_text(text)

    shown = redact.redact(f"Syntax error near line 6\n{text}")

    assert not [secret for secret in ("S3cr-99", "f00-bar-17", "b4r-f00-18") if secret in shown]
    assert "db-1.net" in shown
