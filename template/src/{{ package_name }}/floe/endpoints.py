"""Where lineage and spans go: the standard OpenLineage and OpenTelemetry configuration, the answers as defaults.

Each `open_…` returns nothing where no endpoint is set, and raises what the client raises where the configuration is
wrong.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import yaml
from openlineage.client import OpenLineageClient
from openlineage.client.transport.async_http import AsyncHttpTransport
from opentelemetry.sdk.metrics.export import MetricsData
from opentelemetry.sdk.trace import ReadableSpan

from .delivery import Delivery, one_line
from .exporters import OtlpTarget, send_metrics, send_spans
from .kept_spans import KeptSpan, acknowledge_spans, keep_spans, kept_spans
from .lineage.outbox import Outbox
from .redact import redact
from .settings import Settings, openlineage_files
from .switches import otlp_is_off

logger = logging.getLogger(__name__)

TIMEOUT_SECONDS = 2  # one attempt; the journal takes the place of retries
SPAN_BATCH = 512
PROTOCOLS = ("http/protobuf", "grpc")
SYNTAX = "https://openlineage.io/docs/client/python"


class EndpointError(Exception):
    """The owner's configuration of an endpoint is wrong; the message names the place and the next step."""


def open_lineage(settings: Settings, run_id: str) -> Outbox | None:
    """Return what takes the lineage events of Dagster's run `run_id`."""
    client = lineage_client(settings)
    return Outbox(client, journal_folder(settings), run_id) if client else None


def journal_folder(settings: Settings) -> Path:
    """Return where lineage events wait."""
    return settings.state_dir / "lineage"


def lineage_client(settings: Settings) -> OpenLineageClient | None:
    """Return OpenLineage's own client as openlineage.yml or OPENLINEAGE_* configure it, else for the answer's URL.

    Raises:
        EndpointError: The configuration is wrong.
    """
    if os.environ.get("OPENLINEAGE_DISABLED", "").strip().lower() == "true":
        return None
    if owner := owner_configuration():
        return _configured_by(owner)
    if not settings.openlineage_url:
        return None
    endpoint = os.environ.get("OPENLINEAGE_ENDPOINT", "api/v1/lineage")
    transport: dict[str, Any] = {
        "type": "http",
        "url": _base_url(settings.openlineage_url, endpoint),
        "endpoint": endpoint.lstrip("/"),
        "timeout": TIMEOUT_SECONDS,
        "retry": {"total": 0},
    }
    if key := os.environ.get("OPENLINEAGE_API_KEY"):
        transport["auth"] = {"type": "api_key", "apiKey": key}
    before = set(os.environ)
    try:
        return OpenLineageClient(config={"transport": transport})
    except ValueError as error:
        raise EndpointError(f"OPENLINEAGE_URL={settings.openlineage_url} is no URL: write http://host:port") from error
    finally:
        # The client copies OPENLINEAGE_URL and the key to variables that dbt would inherit.
        for variable in set(os.environ) - before:
            del os.environ[variable]


def _base_url(url: str, endpoint: str) -> str:
    """Return a URL to which the client adds `endpoint`: it would cut off a path, or double one that is complete."""
    path = endpoint.strip("/")
    return url.strip().rstrip("/").removesuffix(f"/{path}") + "/"


def _configured_by(owner: str) -> OpenLineageClient:
    file = Path(owner).expanduser()
    if file.is_file():
        try:
            yaml.safe_load(file.read_bytes())
        except yaml.YAMLError as error:
            raise EndpointError(f"{owner} is no YAML, correct it: {' '.join(str(error).split())}") from error
    try:
        client = OpenLineageClient()
    except Exception as error:  # the client checks nothing: whatever is missing raises in its own way
        raise EndpointError(f"{owner} is not understood: {one_line(error)}; see {SYNTAX}") from error
    if client.transport.kind == "console" and (client.config.transport or {}).get("type") != "console":
        # The client's last resort, which would print each event into the log.
        raise EndpointError(f"{owner} names no transport: give it `transport:` with `type:`; see {SYNTAX}")
    if isinstance(client.transport, AsyncHttpTransport):
        # It says of each event that it was sent, and keeps it in memory; here a thread of our own waits for the answer.
        client.transport.may_exit.set()
        client = OpenLineageClient(config={"transport": {"type": "http"}})
    return client


def owner_configuration() -> str | None:
    """Return the file or variable by which the owner configures OpenLineage's client, if there is one."""
    named = os.environ.get("OPENLINEAGE_CONFIG")
    if named and not Path(named).is_file():
        raise EndpointError(f"OPENLINEAGE_CONFIG={named} is no file: correct it in .env, or leave it out")
    found = (str(file) for file in openlineage_files() if file.is_file())
    variables = (name for name in os.environ if name.startswith("OPENLINEAGE__TRANSPORT"))
    return next(found, None) or next(variables, None)


def span_folder(settings: Settings) -> Path:
    """Return where spans wait."""
    return settings.state_dir / "traces"


def open_spans(settings: Settings) -> Delivery[ReadableSpan | KeptSpan] | None:
    """Return the channel for spans, what earlier runs could not send in its backlog."""
    target = _known_target(settings, "traces")
    if target is None:
        return None
    folder = span_folder(settings)
    return Delivery(
        "traces",
        send_spans(target),
        batch=SPAN_BATCH,
        sent=acknowledge_spans,
        keep=lambda items: keep_spans(folder, items),
        backlog=kept_spans(folder),
    )


def open_metrics(settings: Settings) -> Delivery[MetricsData] | None:
    """Return the channel for metrics, which are not kept."""
    target = _known_target(settings, "metrics")
    return Delivery("metrics", send_metrics(target)) if target else None


def otlp_target(settings: Settings, signal: str) -> OtlpTarget | None:
    """Return where a signal goes, or nothing where it is off.

    The variables of the specification win over the answers
    (https://opentelemetry.io/docs/specs/otel/protocol/exporter/); headers and certificates the exporter reads itself.

    Raises:
        EndpointError: A variable names an exporter or a protocol that is not there.
    """
    variables = {
        name: os.environ.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_{name}") for name in ("ENDPOINT", "PROTOCOL")
    }
    if otlp_is_off(settings, signal):
        return None
    _refuse_unknown(signal)
    protocol = variables["PROTOCOL"] or settings.otlp_protocol
    if protocol not in PROTOCOLS:
        name = (
            f"OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL" if variables["PROTOCOL"] else "OTEL_EXPORTER_OTLP_PROTOCOL"
        )
        raise EndpointError(f"{name}={protocol} is not supported: set {' or '.join(PROTOCOLS)}")
    is_grpc = protocol == "grpc"
    # Only the general endpoint gets the signal's path, and only over HTTP.
    general = settings.otlp_endpoint if is_grpc else f"{settings.otlp_endpoint.rstrip('/')}/v1/{signal}"
    timed = {"OTEL_EXPORTER_OTLP_TIMEOUT", f"OTEL_EXPORTER_OTLP_{signal.upper()}_TIMEOUT"} & set(os.environ)
    return OtlpTarget(variables["ENDPOINT"] or general, is_grpc, None if timed else TIMEOUT_SECONDS)


def _known_target(settings: Settings, signal: str) -> OtlpTarget | None:
    """Return where a signal goes; where its configuration is wrong, warn, and return nothing."""
    try:
        return otlp_target(settings, signal)
    except EndpointError as error:
        logger.warning("%s are off: %s", signal, redact(str(error)))
        return None


def _refuse_unknown(signal: str) -> None:
    name = f"OTEL_{signal.upper()}_EXPORTER"
    exporters = {exporter.strip().lower() for exporter in os.environ.get(name, "").split(",")} - {"", "otlp"}
    if exporters:
        raise EndpointError(f"{name} names {', '.join(sorted(exporters))}, which is not supported: set otlp or none")
