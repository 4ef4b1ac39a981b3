"""The HTTP session for lineage and OTLP, which follows no redirects and reads little of a response."""

from __future__ import annotations

import time
import zlib
from contextlib import suppress
from http.cookiejar import DefaultCookiePolicy
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
from requests.adapters import BaseAdapter, HTTPAdapter

from .limits import BODY_BYTES, BODY_SECONDS, TOKEN_BYTES, TOKEN_SECONDS

GZIP_BITS = 16 + zlib.MAX_WBITS  # for zlib: the data has the header of gzip


class UnexpectedStatusError(Exception):
    """The status of a response means neither success nor an error, so the receiver has accepted nothing."""


class RedirectError(UnexpectedStatusError):
    """The receiver has accepted nothing and names another address."""


class DirectSession(requests.Session):
    """A session that follows no redirects and stores no cookies, which a receiver could add to without limit."""

    def __init__(self) -> None:
        super().__init__()
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Return None: the owner's headers are for this receiver, and a redirected POST may become a GET."""
        # With an address, requests would also read the whole body, even if it is not to follow.


class HttpSession(DirectSession):
    """A session for one receiver.

    Attributes:
        status: Status of its last response.
        body: The beginning of that response's body.
        content_type: Media type of that body.
    """

    def __init__(self) -> None:
        super().__init__()
        self.headers["Accept-Encoding"] = "gzip"
        self.status: int | None = None
        self.body = b""
        self.content_type = ""
        self._reads_bodies = True

    def mount(self, prefix: str, adapter: BaseAdapter) -> None:
        """Add an adapter without its retries after bad statuses."""
        # urllib3 reads the whole body before such a retry. The callers of the session try again themselves.
        if isinstance(adapter, HTTPAdapter):
            retries = adapter.max_retries
            adapter.max_retries = retries.new(status_forcelist=(), respect_retry_after_header=False)
        super().mount(prefix, adapter)

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        """Send a request.

        Raises:
            UnexpectedStatusError: The response is neither a success nor an error, such as a redirect.
        """
        self.status, self.body, self.content_type = None, b"", ""
        response = super().send(request, **{**kwargs, "stream": True, "allow_redirects": False})
        self.status = response.status_code
        self._drop_body(response)
        _refuse_unexpected(response)
        return response

    def _drop_body(self, response: requests.Response) -> None:
        """Read a short body to its end. After a long one, close the connection; after a slow one, read no more."""
        if response.status_code < 200:
            response.close()  # because the real response follows, which the next request would take for its own
            return
        if self._reads_bodies:
            deadline = time.monotonic() + BODY_SECONDS
            try:
                body = _read(response, BODY_BYTES, deadline)
            except Exception:  # the status has arrived, and it decides
                self._reads_bodies = False
            else:
                self._reads_bodies = time.monotonic() < deadline
                if body is not None:
                    self.body, self.content_type = body, response.headers.get("Content-Type", "")
                    return
        response.close()


def post_directly(url: str, *, timeout: float = TOKEN_SECONDS, **kwargs: Any) -> requests.Response:
    """Post as `requests.post` does, for a response whose body is needed; `timeout` is in seconds.

    Raises:
        UnexpectedStatusError: The response is neither a success nor an error, such as a redirect.
        OSError: Its body is too long, or still incomplete after the timeout.
    """
    deadline = time.monotonic() + timeout
    headers = {"Accept-Encoding": "gzip", **kwargs.pop("headers", {})}
    options = {**kwargs, "headers": headers, "allow_redirects": False, "stream": True}
    with DirectSession() as session:
        response = session.post(url, timeout=timeout, **options)
    try:
        _refuse_unexpected(response)
        # The body of an error is not needed.
        if (body := _read(response, TOKEN_BYTES, deadline) if response.ok else b"") is None:
            raise OSError(f"its response is longer than {TOKEN_BYTES >> 20} MiB, or incomplete after {timeout} s")
    finally:
        response.close()
    # Otherwise, requests would read the rest of the body, however long it is.
    vars(response).update(_content=body, _content_consumed=True)
    return response


def _read(response: requests.Response, limit: int, deadline: float) -> bytes | None:
    """Return the body; None if it has `limit` bytes or more, or is incomplete at `deadline` of `time.monotonic`."""
    body = b""
    while len(body) < limit and time.monotonic() < deadline:
        data = response.raw.read1(limit - len(body), decode_content=False)
        if not data:
            return _decoded(body, response, limit)
        body += data
    return None


def _decoded(body: bytes, response: requests.Response, limit: int) -> bytes:
    if "gzip" not in response.headers.get("Content-Encoding", ""):
        return body
    try:
        return zlib.decompressobj(GZIP_BITS).decompress(body, limit)
    except zlib.error:
        return b""


def _refuse_unexpected(response: requests.Response) -> None:
    """Raise an error for a status that requests and OpenTelemetry take for a success although it is none."""
    if 200 <= response.status_code < 300 or 400 <= response.status_code < 600:
        return
    answer = f"{_address(response.url)} answered {response.status_code}"
    if not 300 <= response.status_code < 400:
        raise UnexpectedStatusError(answer)
    if location := response.headers.get("Location"):
        with suppress(ValueError):  # not an address
            answer += f" and redirects to {_address(urljoin(response.url, location))}"
    raise RedirectError(f"{answer}; redirects are not followed")


def _address(url: str) -> str:
    """Return a URL without the parts that may be secret, as printable text of limited length."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    text = f"{parts.scheme}://{host}{parts.path}"
    return "".join(character for character in text if character.isprintable() and character != " ")[:300]
