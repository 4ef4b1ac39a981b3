"""`floe doctor`: it names what is wrong with an endpoint, and blames none that is right or off."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from .endpoint import dead_url, serve
from .package import CheckThread, Finding, doctor, settings

VARIABLES = {"lineage": "OPENLINEAGE_URL", "traces": "OTEL_EXPORTER_OTLP_ENDPOINT"}
CHECKS = {"lineage": doctor.lineage, "traces": doctor.traces}

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


def test_off(check: str) -> None:
    """Without an endpoint nothing is wrong; the variable to set is named."""
    first, *others = found(check, "")

    assert (first.state, {finding.state for finding in others}) == ("off", {"ok"})
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
