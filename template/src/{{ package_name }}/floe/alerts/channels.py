"""The channels for messages: Slack-compatible webhooks, and e-mail.

Both are plain clients of our own, because each message is acknowledged per channel: a library such as Apprise says only
whether all of its services have taken a message, not which, why not, or when to try again.
"""

from __future__ import annotations

import json
import math
import smtplib
import ssl
import time
from contextlib import suppress
from typing import Protocol

from ..delivery.diagnosis import EndpointError
from ..delivery.http_session import HttpSession
from ..redact import redact
from ..settings import Settings
from .alert import Alert
from .config import MAIL, TLS_PORT, AlertConfig, MailConfig
from .message import mail, webhook_text

TIMEOUT_SECONDS = 5.0
REFUSED = {400, 413, 422}  # the message is to blame
TOO_MANY = 429
ANSWER_CHARACTERS = 200
MOST_WAIT_SECONDS = 3600.0
DEFAULT_WAIT_SECONDS = 10.0


class RefusedError(Exception):
    """The receiver works, but refuses this message."""


class BusyError(Exception):
    """The receiver asks for a pause of `seconds`."""

    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message)
        self.seconds = min(max(seconds, 1.0), MOST_WAIT_SECONDS)


class Channel(Protocol):
    """A receiver of messages."""

    def send(self, alert: Alert) -> None:
        """Send a message; return once the receiver has taken it.

        Raises:
            RefusedError: It refuses this message.
            BusyError: It asks for a pause.
            Exception: It cannot be reached, or does not work.
        """

    def close(self) -> None:
        """Close the connection."""


class Webhook:
    """A Slack-compatible webhook."""

    def __init__(self, url: str, settings: Settings) -> None:
        self._url = url
        self._settings = settings
        self._session = HttpSession()

    def send(self, alert: Alert) -> None:
        """Post a message."""
        body = json.dumps({"text": webhook_text(alert, self._settings)}).encode()
        headers = {"Content-Type": "application/json; charset=utf-8"}
        response = self._session.post(self._url, data=body, headers=headers, timeout=TIMEOUT_SECONDS)
        # A secret that is cut in the middle is not recognized, so the answer is cut only after it is redacted.
        shown = redact(self._session.body.decode(errors="replace"))[:ANSWER_CHARACTERS]
        answer = f"it answered {response.status_code} {shown}".strip()
        if response.ok:
            return
        if response.status_code == TOO_MANY:
            raise BusyError(answer, _seconds(response.headers.get("Retry-After", "")))
        raise RefusedError(answer) if response.status_code in REFUSED else OSError(answer)

    def close(self) -> None:
        """Close the connection."""
        self._session.close()


class Mail:
    """A mail server, to which one connection is open while messages are sent."""

    def __init__(self, config: MailConfig, settings: Settings) -> None:
        self._config = config
        self._settings = settings
        self._connection: smtplib.SMTP | None = None

    def send(self, alert: Alert) -> None:
        """Send an e-mail; return once the server has taken it for at least one recipient."""
        try:
            message = mail(alert, self._settings, self._config)
        except Exception as error:  # the library's errors for an address or a text that it cannot encode differ
            raise RefusedError(f"no e-mail can be made of it: {error}") from error
        self._connection = self._connection or connect(self._config)
        recipients = self._config.recipients_for(alert.owners)
        try:
            self._connection.send_message(message, self._config.sender, recipients)
        except smtplib.SMTPRecipientsRefused as error:
            code, text = next(iter(error.recipients.values()))
            _raise(code, f"it answered {code} {text.decode(errors='replace')} for {', '.join(error.recipients)}", error)
        except smtplib.SMTPNotSupportedError as error:
            raise RefusedError(f"the server does not support its addresses: {error}") from error
        except smtplib.SMTPResponseException as error:
            answer = error.smtp_error
            shown = answer.decode(errors="replace") if isinstance(answer, bytes) else answer
            _raise(error.smtp_code, f"it answered {error.smtp_code} {shown}", error)

    def close(self) -> None:
        """Close the connection."""
        if self._connection:
            with suppress(OSError, smtplib.SMTPException):
                self._connection.quit()
            self._connection.close()


def connect(config: MailConfig) -> smtplib.SMTP:
    """Connect to the mail server and sign in, with TLS if the server offers it.

    Raises:
        EndpointError: It offers no TLS to sign in with.
        OSError: It cannot be reached, or does not accept the credentials.
    """
    context = ssl.create_default_context()
    if config.port == TLS_PORT:
        connection: smtplib.SMTP = smtplib.SMTP_SSL(config.host, config.port, timeout=TIMEOUT_SECONDS, context=context)
    else:
        connection = smtplib.SMTP(config.host, config.port, timeout=TIMEOUT_SECONDS)
    try:
        connection.ehlo()
        if config.port != TLS_PORT and connection.has_extn("starttls"):
            connection.starttls(context=context)
            connection.ehlo()
        elif config.port != TLS_PORT and config.user:
            raise EndpointError("it offers no TLS, so the password is not sent: correct SMTP_PORT, or remove SMTP_USER")
        if config.user:
            connection.login(config.user, config.password)
    except BaseException:
        connection.close()
        raise
    return connection


def open_channel(name: str, config: AlertConfig, settings: Settings) -> Channel:
    """Return the channel with a name of `AlertConfig.channels`."""
    if name == MAIL and config.mail:
        return Mail(config.mail, settings)
    return Webhook(config.webhooks[name], settings)


def _raise(code: int, answer: str, error: Exception) -> None:
    if 500 <= code < 600:  # of this message or its recipients; 4xx means that it may be tried again later
        raise RefusedError(answer) from error
    raise OSError(answer) from error


def _seconds(text: str) -> float:
    """Return the seconds of a Retry-After header; if it names no number, or a date, a few."""
    with suppress(ValueError):
        if math.isfinite(seconds := float(text)):
            return seconds
    return DEFAULT_WAIT_SECONDS


def pause(seconds: float, deadline: float) -> bool:
    """Wait if that is possible before `deadline` of `time.monotonic`; return whether it was."""
    if time.monotonic() + seconds > deadline:
        return False
    time.sleep(seconds)
    return True
