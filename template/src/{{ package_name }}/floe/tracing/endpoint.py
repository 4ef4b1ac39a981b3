"""The OTLP endpoints and the resource, as OpenTelemetry's standard variables configure them."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable
from math import inf
from pathlib import Path
from ssl import PROTOCOL_TLS_CLIENT, SSLContext, SSLError

from opentelemetry.metrics import get_meter_provider
from opentelemetry.sdk.metrics.export import MetricsData
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan

from ..delivery.channel import Channel, Item
from ..delivery.diagnosis import OTLP, EndpointError
from ..delivery.limits import TIMEOUT_SECONDS
from ..delivery.sender import Delivery
from ..redact import redact, redact_values
from ..settings import Settings, otlp_is_off
from .channels import MetricChannel, SpanChannel
from .exporters import OtlpTarget
from .spool import SpooledSpan

logger = logging.getLogger(__name__)

PROTOCOLS = ("http/protobuf", "grpc")
COMPRESSIONS = ("gzip", "none")  # of gRPC
# A header that the exporter sends. Others it leaves out.
HEADER = re.compile(r"[!#-'*+\-.0-9A-Z^-z|~]+[ \t]*=[ \t]*[ -!#-+\--:<-\[\]-~]*")

# Set by `floe trace`, whose receiver must not get the spans that wait for the real endpoint.
SPAN_FOLDER = "FLOE_SPAN_FOLDER"


def span_folder(settings: Settings) -> Path:
    """Return the folder of unsent spans."""
    own = os.environ.get(SPAN_FOLDER)
    return Path(own) if own else settings.state_dir / "traces"


def open_spans(settings: Settings, *, replays: bool = True) -> Delivery[ReadableSpan | SpooledSpan] | None:
    """Return the delivery of spans, which also sends earlier ones if it `replays`; None if traces are off."""
    return _open(settings, "traces", lambda target: SpanChannel(target, span_folder(settings)), replays=replays)


def open_metrics(settings: Settings) -> Delivery[MetricsData] | None:
    """Return the delivery of metrics; None if they are off."""
    return _open(settings, "metrics", MetricChannel)


def otlp_target(settings: Settings, signal: str) -> OtlpTarget | None:
    """Return the target of a signal, or None if the signal is off.

    The variables of the specification (https://opentelemetry.io/docs/specs/otel/protocol/exporter/) take precedence
    over the template's answers. The exporter reads headers and certificates itself.

    Raises:
        EndpointError: A variable has a value that is invalid or not supported.
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
    if not variables["ENDPOINT"] and "?" in settings.otlp_endpoint:
        message = f"OTEL_EXPORTER_OTLP_ENDPOINT={settings.otlp_endpoint} has a query, to which no path can be added"
        raise EndpointError(f"{message}: set OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT to the whole URL")
    # The signal's path is added only to the general endpoint, and only for HTTP.
    general = settings.otlp_endpoint if is_grpc else f"{settings.otlp_endpoint.rstrip('/')}/v1/{signal}"
    endpoint = variables["ENDPOINT"] or general
    if not endpoint.startswith("http://"):
        _refuse_certificates(signal, is_grpc=is_grpc)
    _refuse_others(signal, is_grpc=is_grpc)
    return OtlpTarget(signal, endpoint, is_grpc, _timeout(signal))


def _open(
    settings: Settings, signal: str, channel: Callable[[OtlpTarget], Channel[Item]], *, replays: bool = True
) -> Delivery[Item] | None:
    """Return the delivery of a signal, or None with a warning if its configuration is wrong."""
    try:
        target = otlp_target(settings, signal)
        return Delivery(channel(target), replays=replays) if target else None
    except EndpointError as error:
        logger.warning("%s are off: %s", signal, redact(str(error)))
        return None


def _refuse_unknown(signal: str) -> None:
    name = f"OTEL_{signal.upper()}_EXPORTER"
    exporters = {exporter.strip().lower() for exporter in os.environ.get(name, "").split(",")} - {"", "otlp"}
    if exporters:
        raise EndpointError(f"{name} names {', '.join(sorted(exporters))}, which is not supported: set otlp or none")


def _variable(signal: str, part: str) -> tuple[str, str]:
    """Return the name and value of the variable that applies to a signal; the value is blank if none is set."""
    names = (f"OTEL_EXPORTER_OTLP_{signal.upper()}_{part}", f"OTEL_EXPORTER_OTLP_{part}")
    name = next((name for name in names if os.environ.get(name, "").strip()), names[1])
    return name, os.environ.get(name, "").strip()


def _timeout(signal: str) -> float:
    name, value = _variable(signal, "TIMEOUT")
    if not value:
        return TIMEOUT_SECONDS
    try:
        seconds = float(value)
    except ValueError:
        seconds = 0
    if not 0 < seconds < inf:
        message = f"{name}={value} is not a number of seconds above 0: correct it, or remove it"
        raise EndpointError(f"{message} (the default is {TIMEOUT_SECONDS})")
    return seconds


def _refuse_certificates(signal: str, *, is_grpc: bool) -> None:
    for part in ("CERTIFICATE", "CLIENT_CERTIFICATE", "CLIENT_KEY"):
        name, path = _variable(signal, part)
        try:
            if path and (is_grpc or not Path(path).is_dir()):  # requests accepts a folder
                Path(path).read_bytes()
                if part == "CERTIFICATE":
                    SSLContext(PROTOCOL_TLS_CLIENT).load_verify_locations(path)
        except SSLError as error:
            raise EndpointError(f"{name}={path} is not a certificate in PEM format: correct the path") from error
        except OSError as error:
            message = f"{name}={path} cannot be read ({error.strerror})"
            raise EndpointError(f"{message}: correct the path, or remove the variable") from error


def _refuse_others(signal: str, *, is_grpc: bool) -> None:
    name, value = _variable(signal, "COMPRESSION")
    # Over HTTP, the exporter sends without compression and warns.
    if is_grpc and value.lower() not in {"", *COMPRESSIONS}:
        raise EndpointError(f"{name}={value} is not supported: set {' or '.join(COMPRESSIONS)}")
    name = f"OTEL_EXPORTER_OTLP_{signal.upper()}_TIMEOUT"
    if is_grpc and not os.environ.get(name, "unset").strip():  # the exporter would fail
        raise EndpointError(f"{name} is blank: set a number of seconds, or remove it")
    name, value = _variable(signal, "INSECURE")
    if is_grpc and value.lower() not in {"", "true", "false"}:
        raise EndpointError(f"{name}={value} is not supported: set true or false")
    name = "OTEL_PYTHON_METER_PROVIDER"
    if value := os.environ.get(name, ""):
        try:
            get_meter_provider()
        except Exception as error:  # OpenTelemetry's own does not name the variable
            raise EndpointError(f"{name}={value} is not installed: correct it, or remove it") from error
    name, value = _variable(signal, "HEADERS")
    # The exporter would leave such an entry out, and log it, although it may be secret.
    for number, header in enumerate(value.split(","), 1):
        if header.strip() and "=" not in header:
            raise EndpointError(f"{name} has an entry without `=`: write name=value,name=value")
        if header.strip() and not HEADER.fullmatch(header.strip()):
            message = f"{name}: entry {number} has a character that a header cannot have"
            raise EndpointError(f"{message}: percent-encode its value, such as %22 for a double quote and %3B for ;")


def resource_of(settings: Settings) -> Resource:
    """Return the resource: the service, its environment and OTEL_RESOURCE_ATTRIBUTES, which takes precedence."""
    configured = {
        name: value
        for name, value in Resource.create().attributes.items()
        if not (name == "service.name" and str(value).startswith("unknown_service"))
    }
    own = {"service.name": settings.name, "deployment.environment.name": settings.dbt_target}
    return Resource(redact_values({**own, **configured}))


def otlp_hints(signal: str) -> dict[str, str]:
    """Return the hints about a signal; a variable of its own wins over the general one."""
    name = f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT"
    if os.environ.get(name):
        return {**OTLP, "url": name, "path": f"{name}, which is used as it is"}
    return {**OTLP, "path": OTLP["path"].replace("traces", signal)}
