"""The HTTP session for lineage and OTLP: it follows no redirect and reads little of a response."""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
from requests.adapters import BaseAdapter, HTTPAdapter

# Of a response's body; reading a short one to its end keeps the connection for the next request.
BODY_BYTES = 4_096
BODY_SECONDS = 0.5
TOKEN_SECONDS = 10  # that fetching a token may take


class RedirectError(Exception):
    """The receiver has taken nothing, and names another address."""


class HttpSession(requests.Session):
    """A session for one receiver; `status` is that of its last response."""

    def __init__(self) -> None:
        super().__init__()
        self.status: int | None = None
        self._reads_bodies = True

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Return nothing: the owner's headers are for this receiver, and a redirected POST may become a GET."""

    def mount(self, prefix: str, adapter: BaseAdapter) -> None:
        """Take an adapter, without its retries of bad statuses."""
        # Before such a retry urllib3 reads the whole body. What calls the session tries again itself.
        if isinstance(adapter, HTTPAdapter):
            retries = adapter.max_retries
            adapter.max_retries = retries.new(status_forcelist=(), respect_retry_after_header=False)
        super().mount(prefix, adapter)

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        """Send a request.

        Raises:
            RedirectError: The response is a redirect.
        """
        self.status = None
        response = super().send(request, **{**kwargs, "stream": True, "allow_redirects": False})
        self.status = response.status_code
        self._drop_body(response)
        _refuse_redirect(response)
        return response

    def _drop_body(self, response: requests.Response) -> None:
        """Read a short body to its end, and none if an earlier one was not short: then the connection is closed."""
        deadline = time.monotonic() + BODY_SECONDS
        left = BODY_BYTES
        try:
            while self._reads_bodies and left > 0 and time.monotonic() < deadline:
                data = response.raw.read1(left, decode_content=False)
                if not data:
                    return
                left -= len(data)
        except Exception:  # noqa: S110 - the status has come, and counts
            pass
        self._reads_bodies = False
        response.close()


def post_directly(url: str, *, timeout: float = TOKEN_SECONDS, **kwargs: Any) -> requests.Response:
    """Post, as `requests.post` does, where the response's body counts; `timeout` is in seconds.

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
    """Return a URL without what may be secret in it, as printable text of limited length."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    text = f"{parts.scheme}://{host}{parts.path}"
    return "".join(character for character in text if character.isprintable() and character != " ")[:300]
