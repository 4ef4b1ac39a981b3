"""Receivers of messages on loopback: a Slack-compatible webhook, and a mail server."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword

from tools.engines.process import free_port


class Hook(ThreadingHTTPServer):
    """A webhook that keeps the texts that it takes.

    Attributes:
        texts: The texts, in the order of their arrival.
        requests: The number of requests, whatever came of them.
        status: The status of its answers; with one that is not 200 it takes nothing.
        refuses: A text with this in it is refused with status 400.
        breaks_at: A text with this in it is answered with status 500.
        rate: Messages after which it asks once for a pause of a second.
        hangs: Whether it never answers.
        hangs_after: The number of texts after which it begins to hang; 0 for never.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _HookHandler)
        self.texts: list[str] = []
        self.requests = 0
        self.status = 200
        self.refuses = ""
        self.breaks_at = ""
        self.rate = 0
        self.hangs = False
        self.hangs_after = 0
        self.closed = threading.Event()

    @property
    def url(self) -> str:
        """Return its URL."""
        return f"http://127.0.0.1:{self.server_port}/services/T0001/B0002/of-a-throw-away-hook"


class _HookHandler(BaseHTTPRequestHandler):
    server: Hook
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(404)

    def do_POST(self) -> None:
        server, body = self.server, self.rfile.read(int(self.headers["Content-Length"]))
        server.requests += 1
        if server.hangs or (server.hangs_after and len(server.texts) >= server.hangs_after):
            server.closed.wait(60)
            self.close_connection = True
            return
        if server.rate and server.requests % server.rate == 0:
            self._answer(429)
            return
        text = json.loads(body)["text"]
        status = 400 if server.refuses and server.refuses in text else server.status
        status = 500 if server.breaks_at and server.breaks_at in text else status
        if status == 200:
            server.texts.append(text)
        self._answer(status)

    def _answer(self, status: int) -> None:
        body = b"ok" if status == 200 else b"no_text"
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if status == 429:
            self.send_header("Retry-After", "1")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing: the output belongs to the test."""


@contextmanager
def hook() -> Iterator[Hook]:
    """Serve a webhook until the block ends."""
    server = Hook()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.closed.set()
        server.shutdown()
        server.server_close()


class Mailbox:
    """What a mail server keeps of the messages that it takes.

    Attributes:
        messages: The messages, in the order of their arrival.
        recipients: The recipients of each.
        users: The user of each, if it has signed in.
        status: Its answer to a message; with one that is not 250 it takes none.
        port: Its port.
    """

    def __init__(self) -> None:
        self.messages: list[EmailMessage] = []
        self.recipients: list[list[str]] = []
        self.users: list[str] = []
        self.status = "250 OK"
        self.port = 0

    async def handle_DATA(self, _: SMTP, session: Any, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's name
        """Take a message."""
        if self.status.startswith("250"):
            content = envelope.content if isinstance(envelope.content, bytes) else b""
            message = message_from_bytes(content, EmailMessage, policy=policy.default)
            self.messages.append(message)
            self.recipients.append(envelope.rcpt_tos)
            self.users.append(session.auth_data.login.decode() if session.auth_data else "")
        return self.status


@contextmanager
def mailbox(tls: tuple[Path, Path] | None = None, password: str = "", port: int = 0) -> Iterator[Mailbox]:
    """Serve a mail server until the block ends.

    Args:
        tls: The files of a certificate and its key; with them it offers STARTTLS.
        password: If it is not blank, nobody may send without it.
        port: Its port; 0 for any.
    """
    kept = Mailbox()
    options: dict[str, Any] = {}
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*tls)
        options = {"tls_context": context}
    if password:

        def is_right(_: SMTP, __: object, ___: object, ____: str, data: LoginPassword) -> AuthResult:
            return AuthResult(success=data.password.decode() == password, handled=False, auth_data=data)

        options |= {"auth_required": True, "authenticator": is_right}
    kept.port = port or free_port()
    controller = Controller(kept, hostname="127.0.0.1", port=kept.port, ready_timeout=30, **options)
    controller.start()
    try:
        yield kept
    finally:
        controller.stop()
