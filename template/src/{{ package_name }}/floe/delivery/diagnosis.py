"""The diagnosis of an endpoint's error: one line with the cause and the next step."""

from __future__ import annotations

import re


class EndpointError(Exception):
    """The owner's configuration of an endpoint is wrong; the message names the place and the next step."""


# The first that is found counts. Patterns are those of requests, urllib3, OpenSSL, gRPC and OpenLineage's client.
FAULTS = (
    (
        r"Failed to fetch .* answered (?P<status>3\d\d) and redirects to (?P<location>\S+[^;\s])",
        "its token endpoint redirects to {location} ({status}), and redirects are not followed: correct tokenEndpoint",
    ),
    (
        r"answered (?P<status>3\d\d) and redirects to (?P<location>\S+[^;\s])",
        "it redirects to {location} ({status}), and redirects are not followed: correct {url}",
    ),
    (r"answered (?P<status>3\d\d)", "it redirects without naming a place ({status}): correct {url}"),
    (r"No scheme|Invalid URL|No connection adapters|InvalidSchema", "it is not a URL: write http://host:port"),
    (r"CERTIFICATE_VERIFY_FAILED|certificate verify failed", "its TLS certificate is not trusted: {tls}"),
    (r"WRONG_VERSION_NUMBER|wrong version number|record layer failure", "it speaks no TLS there: use http://"),
    (r"[Hh]andshake", "no TLS session could be set up with it: check https:// and the certificates"),
    (
        r"NameResolution|Name or service not known|Temporary failure in name|nodename nor servname|getaddrinfo"
        r"|DNS resolution failed|name resolution|Could not contact DNS|Domain name not found",
        "its host name is not known: correct the host, or the DNS of this machine",
    ),
    (r"[Cc]onnection refused|Errno 111|Errno 61", "nothing listens there: start the receiver, or correct the port"),
    (
        r"http1\.x server|HTTP/1\.|parsing HTTP/2|Received http2 header with status: 4",
        "it speaks HTTP, not gRPC: {to_http}",
    ),
    (r"BadStatusLine|bad status line|\\x00\\x00", "its answer is no HTTP; a gRPC port perhaps: {to_grpc}"),
    (r"\b401\b|UNAUTHENTICATED|Unauthorized", "it does not accept the key (401): set {key}"),
    (r"\b403\b|PERMISSION_DENIED|Forbidden", "the key may not write there (403): ask who runs the receiver"),
    (r"\b404\b|UNIMPLEMENTED|Not Found", "it has no such path (404): correct {path}"),
    (r"\b405\b", "it takes no POST on that path (405): correct {path}"),
    (r"\b413\b|Too Large|larger than max", "what is sent is too large for it (413): raise its limit"),
    (r"\b429\b|RESOURCE_EXHAUSTED|Too Many", "it asks for less (429): its limit of requests or of size is reached"),
    (r"\b400\b|\b422\b|INVALID_ARGUMENT", "it takes the event for wrong ({code}): its log says why"),
    (r"\b5\d\d\b|StatusCode\.INTERNAL|Internal Server Error", "it has an error of its own ({code}): see its log"),
    (
        r"[Tt]imed? ?out|DEADLINE_EXCEEDED|no answer|FD Shutdown",
        "no answer in time: it hangs, or a firewall drops what is sent",
    ),
    (
        r"[Cc]onnection aborted|reset by peer|RemoteDisconnected|Socket closed|UNAVAILABLE|connection closed|EOF",
        "it closes the connection without an answer; perhaps it speaks another protocol: {to_grpc}",
    ),
)
LINEAGE = {
    "url": "OPENLINEAGE_URL",
    "tls": "name the CA's file in REQUESTS_CA_BUNDLE",
    "to_http": "use its HTTP port",
    "to_grpc": "use its HTTP port",
    "key": "OPENLINEAGE_API_KEY",
    "path": "OPENLINEAGE_URL, a base URL, or OPENLINEAGE_ENDPOINT (default api/v1/lineage)",
}
OTLP = {
    "url": "OTEL_EXPORTER_OTLP_ENDPOINT",
    "tls": "name the CA's file in OTEL_EXPORTER_OTLP_CERTIFICATE",
    "to_http": "set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf, or use port 4317",
    "to_grpc": "set OTEL_EXPORTER_OTLP_PROTOCOL=grpc, or use port 4318",
    "key": "OTEL_EXPORTER_OTLP_HEADERS",
    "path": "OTEL_EXPORTER_OTLP_ENDPOINT, a base URL to which /v1/traces is added",
}


def diagnose(error: str, words: dict[str, str]) -> str:
    """Return what `error` means, with what to do in the `words` of lineage or of OTLP, else `error` itself."""
    for pattern, meaning in FAULTS:
        if match := re.search(pattern, error):
            return meaning.format(**words, **match.groupdict(), code=match[0])
    return error
