"""The checks of the channels for messages about failures: they are connected to, and no message is sent."""

from __future__ import annotations

import smtplib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

from ...alerts.channels import TIMEOUT_SECONDS, connect
from ...alerts.config import AlertConfig, MailConfig, read_config
from ...alerts.evaluation import REMEDY, alert_folder
from ...alerts.store import count_waiting
from ...assets.meta import resolve_owners
from ...delivery.counts import one_line
from ...delivery.diagnosis import EndpointError, diagnose
from ...delivery.http_session import HttpSession, UnexpectedStatusError
from ...settings import Settings
from .finding import Finding, origin, request_leaves

DEFINITIONS = Path(__file__).parents[3] / "defs"
HTTP_PORTS = {"http": 80, "https": 443}


def alerts(settings: Settings, _: float) -> Iterator[Finding]:
    """Report whether messages are on, what is wrong with their variables, and which channels can be reached."""
    config = read_config(settings)
    for problem in config.problems:
        yield Finding("alerts", "fail", problem)
    if config.is_off:
        if not config.problems:
            message = "nobody is told about failures: set FLOE_ALERT_WEBHOOK or FLOE_ALERT_EMAIL_TO"
            yield Finding("alerts", "off", message)
        return
    if not any("alert_sensor" in file.read_text(encoding="utf-8") for file in DEFINITIONS.rglob("*.py")):
        message = "no sensor sends them: add `from ..floe.run import alert_sensor` to defs/sensors.py"
        yield Finding("alerts", "fail", message)
    for variable, url in config.webhooks.items():
        yield _webhook(variable, url)
    if config.mail:
        yield _mail(config.mail)
    if owners := _unreached(settings, config):
        message = f"no channel reaches {', '.join(owners)}: {REMEDY}"
        yield Finding("alerts", "fail", message)
    if waiting := count_waiting(alert_folder(settings)):
        yield Finding("alerts waiting", "warn", f"{waiting} messages are waiting; the sensor floe_alerts sends them")


def _unreached(settings: Settings, config: AlertConfig) -> list[str]:
    """Return the owners in the settings whose messages no channel takes."""
    owners = [*resolve_owners(None, None, settings.owner, lambda _: None), *settings.alert_webhooks]
    return [owner for owner in dict.fromkeys(owners) if not config.channels_for((owner,))]


def _webhook(variable: str, url: str) -> Finding:
    parts = urlsplit(url)
    port = parts.port or HTTP_PORTS[parts.scheme]
    address = f"{parts.scheme}://{parts.hostname}:{port}"

    def knock() -> None:
        with HttpSession() as session:
            try:
                session.head(f"{address}/", timeout=TIMEOUT_SECONDS)
            except UnexpectedStatusError:  # such as a redirect to a page: a server answers
                return

    hints = {
        "url": variable,
        "tls": "set REQUESTS_CA_BUNDLE to the CA's file",
        "client": "another receiver",
        "to_http": "correct the port",
        "to_grpc": "correct the port",
        "key": variable,
        "header": variable,
        "path": variable,
    }
    return _tried(f"{address} ({origin(variable)})", knock, hints)


def _mail(config: MailConfig) -> Finding:
    def knock() -> None:
        try:
            connect(config).quit()
        except smtplib.SMTPAuthenticationError as error:
            msg = f"it does not accept SMTP_USER and SMTP_PASSWORD ({error.smtp_code})"
            raise EndpointError(msg) from error

    hints = {
        "url": "SMTP_HOST",
        "tls": "set SSL_CERT_FILE to the CA's file",
        "client": "another mail server",
        "to_http": "correct SMTP_PORT",
        "to_grpc": "correct SMTP_PORT",
        "key": "SMTP_PASSWORD",
        "header": "SMTP_PASSWORD",
        "path": "SMTP_HOST",
    }
    signed_in = f" as {config.user}" if config.user else ""
    return _tried(f"{config.host}:{config.port}{signed_in} ({origin('SMTP_HOST')})", knock, hints)


def _tried(source: str, knock: Callable[[], None], hints: dict[str, str]) -> Finding:
    began = time.monotonic()
    request_leaves()
    try:
        knock()
    except EndpointError as error:
        return Finding("alerts", "fail", f"{source}: {error}")
    except Exception as error:  # a client may raise any error
        return Finding("alerts", "fail", f"{source}: {diagnose(one_line(error), hints)}", str(error))
    milliseconds = 1000 * (time.monotonic() - began)
    return Finding("alerts", "ok", f"{source} answers in {milliseconds:.0f} ms; `floe alert` sends a test message")
