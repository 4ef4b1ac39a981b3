"""The HTTP session for lineage and OTLP, which follows no redirects and reads little of a response."""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
from requests.adapters import BaseAdapter, HTTPAdapter

from .limits import BODY_BYTES, BODY_SECONDS, TOKEN_SECONDS


class RedirectError(Exception):
    """The receiver has accepted nothing and names another address."""


class HttpSession(requests.Session):
    """A session for one receiver.

    Attributes:
        status: Status of its last response.
        body: The beginning of that response's body.
    """

    def __init__(self) -> None:
        super().__init__()
        self.status: int | None = None
        self.body = b""
        self._reads_bodies = True

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Return None: the owner's headers are for this receiver, and a redirected POST may become a GET."""

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
            RedirectError: The response is a redirect.
        """
        self.status, self.body = None, b""
        response = super().send(request, **{**kwargs, "stream": True, "allow_redirects": False})
        self.status = response.status_code
        self._drop_body(response)
        _refuse_redirect(response)
        return response

    def _drop_body(self, response: requests.Response) -> None:
        """Read a short body to its end. From the first long one on, read no more bodies and close the connections."""
        deadline = time.monotonic() + BODY_SECONDS
        left = BODY_BYTES
        try:
            while self._reads_bodies and left > 0 and time.monotonic() < deadline:
                data = response.raw.read1(left, decode_content=False)
                if not data:
                    return
                self.body += data
                left -= len(data)
        except Exception:  # noqa: S110 - the status has arrived, and it decides
            pass
        self._reads_bodies = False
        response.close()


def post_directly(url: str, *, timeout: float = TOKEN_SECONDS, **kwargs: Any) -> requests.Response:
    """Post as `requests.post` does, for a response whose body is needed; `timeout` is in seconds.

    Raises:
        RedirectError: The response is a redirect.
    """
    response = requests.post(url, timeout=timeout, **{**kwargs, "allow_redirects": False})
    _refuse_redirect(response)
    return response


def _refuse_redirect(response: requests.Response) -> None:
    if not 300 <= response.status_code < 400:
        return
    answer = f"{_address(response.url)} answered {response.status_code}"
    if location := response.headers.get("Location"):
        answer += f" and redirects to {_address(urljoin(response.url, location))}"
    raise RedirectError(f"{answer}; redirects are not followed")


def _address(url: str) -> str:
    """Return a URL without the parts that may be secret, as printable text of limited length."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    text = f"{parts.scheme}://{host}{parts.path}"
    return "".join(character for character in text if character.isprintable() and character != " ")[:300]
