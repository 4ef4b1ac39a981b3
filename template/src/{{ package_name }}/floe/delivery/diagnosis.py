"""The diagnosis of an endpoint's error: one line with the cause and the next step."""

from __future__ import annotations

import os
import re


class EndpointError(Exception):
    """The owner's configuration of an endpoint is wrong. The message says where, and what to do."""


class SwitchedOffError(EndpointError):
    """The owner's configuration sends nothing. The message says where, and why."""


# The first pattern that matches is used. They cover requests, urllib3, OpenSSL, gRPC and OpenLineage's client.
FAULTS = (
    (r"another process is sending the events in .*", "{code}: try again when it has ended"),
    (r"\b407\b", "the proxy asks for credentials (407): correct {proxy}"),
    (
        r"ProxyError|InvalidProxyURL|[Pp]roxy URL|[Pp]roxy scheme|ProxyScheme",
        "the proxy does not work: correct {proxy}, or add the receiver's host to NO_PROXY",
    ),
    (
        r"certificate bundle, invalid path: (?P<file>.+)",
        "the file {file} does not exist: correct REQUESTS_CA_BUNDLE, or remove it",
    ),
    (
        r"Content-Length contained",
        "its answer has two different lengths: check that {url} names a receiver, and any proxy before it",
    ),
    (
        r"InvalidHeader|in header (?:value|name)|codec can't encode|[Ii]llegal (?:header|metadata)",
        "a header has a character that HTTP does not allow, such as a line break or a euro sign: correct {header}",
    ),
    (
        r"Failed to fetch .* answered (?P<status>3\d\d) and redirects to (?P<location>\S+[^;\s])",
        "its token endpoint redirects to {location} ({status}), and redirects are not followed: correct tokenEndpoint",
    ),
    (
        r"answered (?P<status>3\d\d) and redirects to (?P<location>\S+[^;\s])",
        "it redirects to {location} ({status}), and redirects are not followed: correct {url}",
    ),
    (r"answered (?P<status>3\d\d)", "it redirects without naming an address ({status}): correct {url}"),
    (
        r"answered (?P<status>[16-9]\d\d)",
        "it answered {status}, which is neither a success nor an error: check that {url} names a receiver",
    ),
    (r"No scheme|Invalid URL|No connection adapters|InvalidSchema", "it is not a URL: write http://host:port"),
    (r"(?i)alert[_ ]certificate[_ ]required", "it asks for a client certificate: set {client}"),
    (r"CERTIFICATE_VERIFY_FAILED|certificate verify failed", "its TLS certificate is not trusted: {tls}"),
    (r"WRONG_VERSION_NUMBER|wrong version number|record layer failure", "that port does not use TLS: use http://"),
    (r"[Hh]andshake", "the TLS handshake with it failed: check https:// and the certificates"),
    (
        r"NameResolution|Name or service not known|Temporary failure in name|nodename nor servname|getaddrinfo"
        r"|DNS resolution failed|name resolution|Could not contact DNS|Domain name not found",
        "its host name cannot be resolved: correct the host, or the DNS of this machine",
    ),
    (
        r"[Cc]onnection refused|Errno 111|Errno 61",
        "nothing is listening there: start the receiver, or correct the port",
    ),
    (
        r"http1\.x server|HTTP/1\.|parsing HTTP/2|Received http2 header with status: 4",
        "it speaks HTTP, not gRPC: {to_http}",
    ),
    (r"BadStatusLine|bad status line|\\x00\\x00", "its answer is not HTTP, so this may be a gRPC port: {to_grpc}"),
    (r"\b401\b|UNAUTHENTICATED|Unauthorized", "it does not accept the key (401): set {key}"),
    (
        r"\b403\b|PERMISSION_DENIED|Forbidden",
        "the key has no permission to write there (403): ask whoever runs the receiver",
    ),
    (r"\b404\b|UNIMPLEMENTED|Not Found", "it has no such path (404): correct {path}"),
    (r"\b405\b", "it does not accept POST on that path (405): correct {path}"),
    (r"\b413\b|Too Large|larger than max", "the request is too large for it (413): raise its limit"),
    (r"\b429\b|RESOURCE_EXHAUSTED|Too Many", "it limits requests (429): their number or size has reached its limit"),
    (r"\b400\b|\b422\b|INVALID_ARGUMENT", "it rejects the data as invalid ({code}): see its log for the reason"),
    (r"\b5\d\d\b|StatusCode\.INTERNAL|Internal Server Error", "it answered with a server error ({code}): see its log"),
    (
        r"[Tt]imed? ?out|DEADLINE_EXCEEDED|no answer|FD Shutdown",
        "no answer in time: it hangs, or a firewall drops the packets",
    ),
    (
        r"https://.*(?:[Cc]onnection aborted|reset by peer|RemoteDisconnected|connection closed|EOF)",
        "it closes the TLS connection without an answer. It may ask for a client certificate: set {client}. "
        "Or it may expect another protocol: {to_grpc}",
    ),
    (
        r"[Cc]onnection aborted|reset by peer|RemoteDisconnected|Socket closed|UNAVAILABLE|connection closed|EOF",
        "it closes the connection without an answer, so it may expect another protocol: {to_grpc}",
    ),
)
# The error of OpenLineage's client when it fetches a token, which authenticates its requests.
TOKEN = re.compile(r"Failed to fetch .*? from (?P<address>\S+): (?P<cause>.+)")
TOKEN_HINTS = {"url": "tokenEndpoint", "path": "tokenEndpoint"}
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
# An address in an error; urllib3 gives its parts.
URL = re.compile(r"https?://[^\s,;'\"]*[^\s,;'\":.)]")
POOL = re.compile(r"(HTTPS?)ConnectionPool\(host='([^']*)', port=(\d+)\)(?:.*? with url: (\S+))?")
LINEAGE = {
    "url": "OPENLINEAGE_URL",
    "tls": "set REQUESTS_CA_BUNDLE to the CA's file",
    "client": "`sslContext` of the transport in openlineage.yml",
    "to_http": "use its HTTP port",
    "to_grpc": "use its HTTP port",
    "key": "OPENLINEAGE_API_KEY",
    "header": "OPENLINEAGE_API_KEY",
    "path": "OPENLINEAGE_URL, a base URL, or OPENLINEAGE_ENDPOINT (default api/v1/lineage)",
}
OTLP = {
    "url": "OTEL_EXPORTER_OTLP_ENDPOINT",
    "tls": "set OTEL_EXPORTER_OTLP_CERTIFICATE to the CA's file",
    "client": "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and OTEL_EXPORTER_OTLP_CLIENT_KEY",
    "to_http": "set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf, or use port 4317",
    "to_grpc": "set OTEL_EXPORTER_OTLP_PROTOCOL=grpc, or use port 4318",
    "key": "OTEL_EXPORTER_OTLP_HEADERS",
    "header": "OTEL_EXPORTER_OTLP_HEADERS",
    "path": "OTEL_EXPORTER_OTLP_ENDPOINT, a base URL to which /v1/traces is added",
}


def diagnose(error: str, hints: dict[str, str]) -> str:
    """Return the cause of `error` and what to do, with the `hints` of lineage or OTLP; if unknown, `error` itself."""
    token = TOKEN.search(error)
    if token and not re.search(r"answered 3\d\d", error):
        address, cause = token.groups()
        if refusal := re.search(r"\b40[013]\b", cause):
            cause = f"it does not accept the credentials ({refusal[0]}): correct {hints['key']}"
        else:
            cause = _cause(cause, {**hints, **TOKEN_HINTS})
        return f"no token from {_without_credentials(address)}: {cause}"
    return _cause(error, hints)


def explain(error: str, hints: dict[str, str]) -> str:
    """Return the address in `error`, the cause and what to do; if the cause is unknown, return `error` itself."""
    cause = diagnose(error, hints)
    if cause == error or TOKEN.search(error):
        return cause
    if pool := POOL.search(error):
        scheme, host, port, path = pool.groups("")
        host = f"[{host}]" if ":" in host else host  # IPv6
        # Through a proxy, the pool is that of the proxy, and the path is the whole address.
        return f"{path}: {cause}" if path.startswith("http") else f"{scheme.lower()}://{host}:{port}{path}: {cause}"
    url = URL.search(error)
    return f"{url[0]}: {cause}" if url else cause


def _cause(error: str, hints: dict[str, str]) -> str:
    for pattern, meaning in FAULTS:
        if match := re.search(pattern, error):
            return meaning.format(**hints, **match.groupdict(), code=match[0], proxy=_proxies())
    return error


def _proxies() -> str:
    """Return the variables that name a proxy, with their values."""
    names = [name for kind in PROXIES for name in (kind, kind.lower()) if os.environ.get(name)]
    return " or ".join(f"{name}={_without_credentials(os.environ[name])}" for name in names) or " or ".join(PROXIES)


def _without_credentials(address: str) -> str:
    scheme, separator, rest = address.rpartition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"
