"""`floe doctor`: it names what is wrong with an endpoint, and blames none that is right or off."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from .endpoint import dead_url, serve
from .package import CheckThread, Finding, doctor, settings
from .runs import run_recorded

VARIABLES = {
    "lineage": "OPENLINEAGE_URL",
    "traces": "OTEL_EXPORTER_OTLP_ENDPOINT",
    "metrics": "OTEL_EXPORTER_OTLP_ENDPOINT",
}
CHECKS = {"lineage": doctor.lineage, "traces": doctor.traces, "metrics": doctor.metrics}
KEYS = {
    "lineage": "OPENLINEAGE_API_KEY",
    "traces": "OTEL_EXPORTER_OTLP_HEADERS",
    "metrics": "OTEL_EXPORTER_OTLP_HEADERS",
}
CONFIDENTIAL = "n0t-f0r-the-screen"
# Status of an answer -> what the doctor says of it.
ANSWERS = {
    401: "it does not accept the key (401)",
    403: "the key has no permission to write there",
    404: "it has no such path (404)",
    413: "too large for it",
    422: "rejects the data as invalid",
    500: "it answered with a server error",
}

pytestmark = pytest.mark.parametrize("check", CHECKS)


def found(check: str, url: str) -> list[Finding]:
    """Return the findings of a check, run as the doctor runs it."""
    own = replace(settings, openlineage_url=url, otlp_endpoint=url, otlp_protocol="http/protobuf")
    findings: list[Finding] = []
    thread = CheckThread(check, lambda: findings.extend(CHECKS[check](own, time.monotonic() + 30)))
    thread.start()
    thread.join()
    return findings


def test_healthy(check: str) -> None:
    """An endpoint that takes what it is sent is all right, and it was sent something."""
    with serve() as endpoint:
        findings = found(check, endpoint.url)

    assert {finding.state for finding in findings} == {"ok"}
    assert endpoint.requests


def test_password(check: str) -> None:
    """The password in an endpoint's URL is not shown."""
    with serve() as endpoint:
        findings = found(check, endpoint.url.replace("//", f"//floe:{CONFIDENTIAL}@"))

    assert f"127.0.0.1:{endpoint.server_port}" in findings[0].message
    assert CONFIDENTIAL not in str(findings)


def test_off(check: str) -> None:
    """Without an endpoint nothing is wrong; the variable to set is named."""
    first, *others = found(check, "")

    assert first.state == "off"
    assert {finding.state for finding in others} <= {"ok"}
    assert VARIABLES[check] in first.message


def test_refused(check: str) -> None:
    """A port at which nobody listens is named, with what to do."""
    url = dead_url()
    finding, *_ = found(check, url)

    assert finding.state == "fail"
    assert url in finding.message
    assert "nothing is listening there" in finding.message


def test_redirect(check: str) -> None:
    """A redirect is named with its place and the variable to correct, and the place gets nothing."""
    with serve() as endpoint, serve() as other:
        endpoint.redirects_to = other.url
        finding, *_ = found(check, endpoint.url)

    assert finding.state == "fail"
    assert f"redirects to {other.url}" in finding.message
    assert VARIABLES[check] in finding.message
    assert other.requests == []


def test_answers(check: str) -> None:
    """What an endpoint answers is named in words; with a key that is wrong, the variable of the key."""
    with serve() as endpoint:
        for status, words in ANSWERS.items():
            endpoint.status = status
            finding, *_ = found(check, endpoint.url)
            assert finding.state == "fail"
            assert words in finding.message
            if status == 401:
                assert KEYS[check] in finding.message


def test_waiting(check: str, tmp_path: Path) -> None:
    """What waits of earlier runs is counted while the endpoint is dead, and sent once it works."""
    if check == "metrics":
        return  # metrics are not kept
    url = dead_url()
    run_recorded(tmp_path, lineage_url=url, otlp_url=url, patience=0)
    _, waits = found(check, url)
    with serve() as endpoint:
        _, sent = found(check, endpoint.url)
        number = len(endpoint.events) if check == "lineage" else len(endpoint.spans)
    test_items = 2 if check == "lineage" else 1

    assert (waits.state, sent.state) == ("warn", "ok")
    assert waits.message.startswith(f"{number - test_items} ")
    assert sent.message.startswith(f"{number - test_items} ")
    assert "have been sent now" in sent.message
