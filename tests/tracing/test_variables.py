"""Tests of OpenTelemetry's standard variables with real receivers of both protocols."""

from __future__ import annotations

import gc
import socket
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pipeline.floe.dbt.node_events import Outcome
from pipeline.floe.delivery.counts import Counts
from pipeline.floe.delivery.sender import THREAD_PREFIX
from pipeline.floe.settings import read_settings
from pipeline.floe.step import Step
from pipeline.floe.tracing.endpoint import open_metrics, open_spans, resource_of
from pipeline.floe.tracing.metrics import Metrics
from pipeline.floe.tracing.spans import Handoff, SpanBuilder

from tools.engines.certificates import write_certificate
from tools.receiver import Receiver, receiver

# An exporter's connections end with the process of its step; here they are left to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

PROTOCOLS = ["http/protobuf", "grpc"]
NAMES = ["run daily", "step dbt_models"]


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """Collect a test's connections before the next test, which would otherwise get their warnings."""
    yield
    for thread in threading.enumerate():
        if thread.name.startswith(THREAD_PREFIX):
            thread.join(10)
    gc.collect()


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Remove the variables of trusted certificates, and the items that other tests could not send."""
    monkeypatch.setenv("FLOE_STATE_DIR", str(tmp_path))
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(params=PROTOCOLS)
def protocol(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Choose a protocol."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", request.param)
    return str(request.param)


@pytest.fixture
def endpoint(protocol: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """Start a receiver and set the variable of its address."""
    with receiver() as server:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", base(server, protocol))
        yield server


@pytest.fixture
def secure(protocol: str, monkeypatch: pytest.MonkeyPatch, certificate: tuple[Path, Path]) -> Iterator[Receiver]:
    """Start a receiver with TLS and set the variable of its address."""
    with receiver(certificate) as server:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", base(server, protocol))
        yield server


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Make an untrusted certificate."""
    return write_certificate(tmp_path_factory.mktemp("tls"))


def base(server: Receiver, protocol: str) -> str:
    """Return the value of the general endpoint."""
    return server.grpc_url if protocol == "grpc" else server.url


def send(seconds: float = 10) -> Counts | None:
    """Send the spans and metrics of a step; return the counts of the spans."""
    settings = read_settings()
    spans, numbers = open_spans(settings), open_metrics(settings)
    step = Step(
        run_id="3af8618d-af6f-4b71-be87-6c928a10eb2d",
        job_name="daily",
        key="dbt_models",
        run_started_at=datetime.now(UTC),
    )
    tracing = SpanBuilder(step, resource_of(settings), Handoff(spans.put if spans else lambda _: None))
    assert "TRACEPARENT" in tracing.environment()
    tracing.end(Outcome.SUCCESS, None, run_outcome=Outcome.SUCCESS)
    metrics = Metrics(resource_of(settings))
    metrics.record_lineage(Counts(sent=1))
    if numbers:
        if data := metrics.collect():
            numbers.put(data)
        numbers.close(time.monotonic() + seconds)
    return spans.close(time.monotonic() + seconds) if spans else None


def test_secret_attributes(endpoint: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """A resource has no secret; its other attributes stay."""
    monkeypatch.setenv("DBT_ENV_SECRET_X", "f00-bar-17")
    attributes = "app.db=postgres://me:0th-er-18@db/shop,app.note=f00-bar-17,app.key=m0re-19,app.team=sales"
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", attributes)

    send()

    text = str(endpoint.resources)
    assert "sales" in text
    assert "[hidden]" in text
    assert not [secret for secret in ("0th-er-18", "f00-bar-17", "m0re-19") if secret in text]


def names(server: Receiver) -> list[str]:
    """Return the names of the received spans."""
    return sorted(span.name for span in server.spans)


def test_protocol(endpoint: Receiver) -> None:
    """Spans and metrics arrive."""
    assert Counts(sent=2) == send()
    assert (NAMES, ["floe.lineage.events"]) == (names(endpoint), [metric.name for metric in endpoint.metrics])


def test_headers(endpoint: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Headers are sent percent-decoded; for a signal, its own headers take precedence."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-team=all%20of%20us,x-key=k")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_HEADERS", "x-team=numbers")
    send()

    assert {"all of us", "numbers"} == {each["x-team"] for each in endpoint.headers}
    assert ["k"] == [each["x-key"] for each in endpoint.headers if "x-key" in each]


def test_resource(endpoint: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """The resource has the project, its target and the owner's attributes, which take precedence."""
    monkeypatch.delenv("OTEL_SERVICE_NAME", raising=False)
    monkeypatch.setenv("DBT_TARGET", "prod")
    send()
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "team=data,deployment.environment.name=stage")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "shop")
    send()

    own, told = ({each.key: each.value.string_value for each in r.attributes} for r in endpoint.resources)
    assert ("pipeline", "prod") == (own["service.name"], own["deployment.environment.name"])
    assert {"team": "data", "deployment.environment.name": "stage", "service.name": "shop"}.items() <= told.items()


@pytest.mark.parametrize(
    ("sampler", "argument", "arrives"),
    [("always_off", "", False), ("traceidratio", "1.0", True), ("parentbased_traceidratio", "0.0", False)],
)
def test_sampler(
    endpoint: Receiver, monkeypatch: pytest.MonkeyPatch, sampler: str, argument: str, *, arrives: bool
) -> None:
    """The sampler decides for the whole trace."""
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", sampler)
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", argument)
    send()

    assert (NAMES if arrives else []) == names(endpoint)


@pytest.mark.parametrize("variable", ["OTEL_EXPORTER_OTLP_CERTIFICATE", "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE"])
def test_certificate(
    secure: Receiver, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """With https, TLS uses the configured certificate, whatever else the machine trusts."""
    monkeypatch.setenv(variable, str(certificate[0]))
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "none")
    (others := certificate[0].with_name("others.crt")).write_text("")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(others))

    assert Counts(sent=2) == send()
    assert NAMES == names(secure)


@pytest.mark.parametrize("named", [True, False])
def test_client_certificate(
    protocol: str, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, *, named: bool
) -> None:
    """A receiver that requests a client certificate gets the configured one."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", str(certificate[0]))
    if named:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", str(certificate[0]))
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_CLIENT_KEY", str(certificate[1]))
    with receiver(certificate, mutual=True) as server:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", base(server, protocol))
        send(2)

        assert (NAMES if named else []) == names(server)


@pytest.mark.parametrize("scheme", ["https", "http"])
def test_no_certificate(secure: Receiver, monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    """An untrusted certificate is refused, and http does not use TLS."""
    url = base(secure, read_settings().otlp_protocol)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url.replace("https", scheme))
    counts = send(0.5)

    assert counts
    assert (0, 2, []) == (counts.sent, counts.spooled, names(secure))


def test_signal_endpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each signal may have its own endpoint, which is used unchanged, and its own protocol."""
    with receiver() as first, receiver() as second:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"{first.url}/v1/traces")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", second.grpc_url)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "grpc")
        send()

        assert (NAMES, [], 0, 1) == (names(first), names(second), len(first.metrics), len(second.metrics))


@pytest.mark.usefixtures("protocol")
def test_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    """The timeout limits the wait for an endpoint that never answers."""
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "none")
    took = []
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        for timeout in ("0.1", "2"):
            monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", timeout)
            before = time.monotonic()
            send()
            took.append(time.monotonic() - before)

    assert took[0] * 2 < took[1]


@pytest.mark.parametrize(
    ("variable", "value"),
    [("OTEL_SDK_DISABLED", "true"), ("OTEL_TRACES_EXPORTER", "none"), ("OTEL_SDK_DISABLED", "TRUE")],
)
def test_switches(endpoint: Receiver, monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    """Export is switched off without touching the endpoint."""
    monkeypatch.setenv(variable, value)

    assert (None, []) == (send(), names(endpoint))
