"""The secret values, and the texts of public settings.

Out: the secrets as written. `secret_forms.py` derives the other forms in which they may occur in a text.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import yaml

from ..settings import ROOT, Settings, openlineage_files

# Names of credentials in variables, profile keys, headers and log fields; their words are joined by underscores.
CREDENTIAL = re.compile(
    r"passw(or)?d|passphrase|token|secret|api_?key|private_?key|account_?key|access_?key|credential|authorization"
    r"|(^|_)(pass|pwd|key|pat|cred)s?\d*(_|$)|keyfile_json|(db|user|app|root|admin)(pass|pwd)s?\d*(_|$)"
    # At the end only, because PW_BROWSERS and COOKIE_SECURE are settings. SPARK_AUTH is the name of a method.
    r"|(^|_)(pw\d*|cookies?|auth_headers?|(basic|http|proxy|redis|registry)_auth)$"
    r"|(signing|encryption|storage|sas|shared|master|service|client|consumer|hmac|ssh)keys?\d*(_|$)"
)
# Endings of such names whose value is not a credential: a path to a key, the name of a user.
PUBLIC = re.compile(
    r"(^|_)(path|file|keyfile|dir|id|ur[il]|endpoint|name|type|host|port|user|seconds|ttl|algorithm|column)s?\d*$"
    r"|^sslkey$"
)
PATHS = {
    "PWD",
    "OLDPWD",
    "GOOGLE_APPLICATION_CREDENTIALS",
    *(f"OTEL_EXPORTER_OTLP_{signal}CLIENT_KEY" for signal in ("", "TRACES_", "METRICS_")),
}
USER = re.compile(r"(^|_)(user|username|login|client_id)$")
OTLP_HEADERS = re.compile(r"OTEL_EXPORTER_OTLP_(\w+_)?HEADERS")
OPENLINEAGE_HEADER = re.compile(r"OPENLINEAGE__.*HEADERS__.+")
ENDPOINT = re.compile(r"OPENLINEAGE_URL|OPENLINEAGE__\w*URL|OTEL_EXPORTER_OTLP_(\w+_)?ENDPOINT")
PROXY = re.compile(r"(https?|all|ftp|socks|grpc)_proxy", re.IGNORECASE)
# Up to the last @, because people write passwords into URLs without encoding them. `jdbc:postgresql` is a scheme too.
USERINFO = re.compile(r"^(?:[\w+.:-]+://)?([^\s]*)@")
# user:password@host without a scheme
WITHOUT_SCHEME = re.compile(r"[^\s/@:]+:[^\s@]+@[\w.-]+(:\d+)?/?")
BETWEEN_URLS = re.compile(r"[\s,;|\"'\[\]{}]+(?=[\w+.:-]+://)")
URL_CREDENTIALS = re.compile(r"//[^\s]*@")
# name=value in a URL, a connection string, command-line options or a list; the lookahead makes the entries overlap.
PARAMETER = re.compile(r"""(?:^|[?&;,\s])(?=([\w.-]+)\s*=\s*(?:(["'])(.*?)\2|([^&;#\s]+)))""")
# The signature in a URL that grants access to a file: of Azure, and of S3 and those that are compatible with it.
SIGNATURE = re.compile(r"sig|Signature|(?i:x-(amz|goog)-signature)")
# A quoted value of libpq, in which a backslash escapes. The lengths are limited because a quote may have no end.
LIBPQ_PARAMETER = re.compile(r"(?:^|\s)(?=(\w+)\s*=\s*'((?:\\.|[^'\\]){0,1000})')", re.DOTALL)
# An entry of an ODBC string, which ends at a semicolon; braces and quotes may enclose semicolons.
ODBC_ENTRY = re.compile(
    r"""(?:^|;)([^=;]*)=\s*(?:\{((?:[^}]|\}\}){0,1000})\}|"((?:[^"]|""){0,1000})"|'((?:[^']|''){0,1000})'|([^;]*))"""
)
# A header's value whose scheme says that credentials follow.
SCHEME = re.compile(r"(?:basic|bearer|token|api-?key|negotiate|dpop|digest|bot|snowflake)\s+\S", re.IGNORECASE)
# An entry of YAML in any line; the lookahead makes those of a mapping in braces overlap.
ENTRY = re.compile(r"""([\w-]+)["']?[ \t]*:(?=[ \t]+(.*)|$)""")
ENV_VAR = re.compile(r"""env_var\(\s*(['"])(?P<name>\w+)\1\s*(?P<comma>,\s*(?:(['"])(?P<default>.*?)\4)?)?""")


SHORTEST_LINE = 6
SHORTEST_LINE_OF_JSON = 8


class _AsWritten(yaml.SafeLoader):
    """A loader of YAML that reads dates and numbers as text, since `0123` and a date are written differently again."""


_AsWritten.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag.endswith((":bool", ":null", ":merge"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


@dataclass(frozen=True, slots=True)
class ProfileVariable:
    """A variable that `profiles.yml` reads; `default` is None without a default, and blank if that is not a string."""

    name: str
    default: str | None
    is_secret: bool


@dataclass(slots=True)
class Secrets:
    """Secret values, and values that are not secret.

    Attributes:
        values: Secrets as written.
        users: User names that sign in with one of them.
        settings: Texts of public settings, such as the host and the schema of a profile.
    """

    values: set[str] = field(default_factory=set)
    users: set[str] = field(default_factory=set)
    settings: set[str] = field(default_factory=set)


def is_credential(name: str) -> bool:
    """Return whether the name of a variable, key, header or field marks its value as secret."""
    if name.startswith("DBT_ENV_SECRET"):  # dbt's own prefix for secrets
        return True
    words = re.sub(r"[^a-z0-9]+", "_", name.lower())
    return bool(CREDENTIAL.search(words)) and not PUBLIC.search(words) and name not in PATHS


def read_secrets(settings: Settings, environment: Mapping[str, str]) -> Secrets:
    """Return the secrets and public settings of `environment`, the profile and OpenLineage's configuration."""
    secrets = Secrets()
    profile = _read_yaml(secrets, settings.dbt_profiles_dir / "profiles.yml")
    read_by_profile = {variable.name: variable.is_secret for variable in profile_variables(profile)}
    for name, value in environment.items():
        if OTLP_HEADERS.fullmatch(name):
            for header in value.split(","):
                _add_header(secrets, unquote(header.partition("=")[2].strip()))
            entries = (header.partition("=") for header in value.split(","))
            secrets.values |= {value, *((text if sign else name).strip() for name, sign, text in entries)}
        elif OPENLINEAGE_HEADER.fullmatch(name):
            _add_header(secrets, value)
        elif name in settings.secret_variables or is_credential(name) or read_by_profile.get(name):
            _add_value(secrets, value)
        elif name.startswith("OPENLINEAGE__") and _is_document(value):
            _add_leaves(secrets, _read_json(value), hide="HEADERS" in name)
        elif name in read_by_profile:
            secrets.settings.add(value)
        if name in settings.webhook_variables:  # its path, which errors show without the host, is the secret
            secrets.values |= {value.strip(), value.strip().partition("://")[2].partition("/")[2]}
        if USER.search(name.lower()):
            secrets.users.add(value)
        _add_url(secrets, value, is_endpoint=bool(ENDPOINT.fullmatch(name) or PROXY.fullmatch(name)))
    for url in (settings.openlineage_url, settings.otlp_endpoint):
        _add_url(secrets, url, is_endpoint=True)
    _add_leaves(secrets, profile)
    for file in openlineage_files():
        _add_leaves(secrets, _read_yaml(secrets, file))
    secrets.settings |= {str(ROOT), *_texts(settings)}
    # The credentials in a URL are no part of a public setting.
    secrets.settings = {URL_CREDENTIALS.sub("//", setting) for setting in secrets.settings}
    for group in (secrets.values, secrets.users, secrets.settings):
        group.discard("")
    return secrets


def _texts(settings: Settings) -> Iterator[str]:
    for setting in fields(settings):
        if isinstance(value := getattr(settings, setting.name), str | Path):
            yield str(value)


def _add_value(secrets: Secrets, value: str) -> None:
    """Add a secret, each of its lines and entries, and the secret entries if it is JSON, such as an account's key.

    A key may be in base64, in which clients such as dbt's for BigQuery accept it; then it is added as text as well.
    """
    value = value.strip()
    with suppress(ValueError):  # not base64, or not of a text
        decoded = base64.b64decode("".join(value.split()), validate=True).decode()
        if decoded.lstrip().startswith(("{", "[", "-----BEGIN")):
            _add_value(secrets, decoded)
    secrets.values |= {
        value,
        re.sub(r"""^(["'])(.*)\1$""", r"\2", value),
    }  # Docker keeps the quotes of a file of variables
    if SCHEME.match(value):
        _add_header(secrets, value)
    # A shorter line is redacted nowhere: in JSON, it may be any entry's; elsewhere, it would be a plain secret.
    shortest = SHORTEST_LINE_OF_JSON if _is_document(value) else SHORTEST_LINE
    lines = [line.strip() for line in re.split(r"\\n|\r?\n", value)]
    if len(lines) > 1:
        secrets.values |= {line for line in lines if len(line) >= shortest and not line.startswith("-----")}
    if _is_document(value):
        document = _read_json(value)
        _add_leaves(secrets, document, hide=isinstance(document, list))
    else:
        secrets.values |= {entry.strip() for entry in re.split("[,;]", value)}  # keys in rotation


def _is_document(value: str) -> bool:
    return value.lstrip().startswith(("{", "["))


def _add_header(secrets: Secrets, value: str) -> None:
    """Add a header's value, and the part after `Bearer` or `Basic` as well."""
    secrets.values.add(value)
    scheme, _, credentials = value.strip().partition(" ")
    if credentials:
        secrets.values.add(credentials.strip())
    if scheme.lower() == "basic":
        with suppress(ValueError):
            encoded = credentials.strip().rstrip("=")
            decoded = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
            user, _, password = _decode(decoded).partition(":")
            secrets.users.add(user)
            secrets.values.add(password)


def _decode(text: bytes) -> str:
    """Return text that is UTF-8 or, as in older clients' headers, Latin-1."""
    try:
        return text.decode()
    except UnicodeDecodeError:
        return text.decode("latin-1")


def _add_url(secrets: Secrets, text: str, *, is_endpoint: bool) -> None:
    """Add the credentials in each URL of a text; in an endpoint's URL, a user without a password is a token."""
    text = text.strip()
    for url in BETWEEN_URLS.split(text):
        is_url = is_endpoint or "://" in url or WITHOUT_SCHEME.fullmatch(url)
        if match := USERINFO.match(url) if is_url else None:
            user, _, password = match[1].partition(":")
            if password:
                secrets.users |= {user, unquote(user)}
                # A path may contain an @ as well.
                passwords = {password, password.partition("@")[0]}
                secrets.values |= passwords | {unquote(password) for password in passwords}
            elif is_endpoint:
                secrets.values |= {user, unquote(user)}
    for name, _, quoted, bare in PARAMETER.findall(text):
        if is_credential(name) or SIGNATURE.fullmatch(name):
            values = {quoted, bare, bare.partition(",")[0]}
            secrets.values |= values | {unquote(value) for value in values}
    secrets.values |= set(_connection_passwords(text))


def _connection_passwords(text: str) -> Iterator[str]:
    """Yield the passwords in a connection string of libpq or ODBC, without their quotes, braces and escapes."""
    for name, value in LIBPQ_PARAMETER.findall(text):
        if is_credential(name):
            yield re.sub(r"\\(.)", r"\1", value, flags=re.DOTALL)
    # Without a semicolon, the entry would end where the text ends.
    for name, in_braces, in_double, in_single, bare in ODBC_ENTRY.findall(text) if ";" in text else ():
        if is_credential(name.strip()):
            yield from (in_braces.replace("}}", "}"), in_double.replace('""', '"'), in_single.replace("''", "'"))
            yield bare.strip()


def _is_headers(key: str) -> bool:
    """Return whether a key's value is a mapping of headers, such as `custom_headers` of OpenLineage's client."""
    return key.lower().endswith("headers")


def _add_leaves(secrets: Secrets, document: Any, name: str = "", *, hide: bool = False) -> None:
    """Add the values under secret keys and under headers as secrets, and all others as settings."""
    if isinstance(document, dict):
        for key, value in document.items():
            is_hidden = hide or _is_headers(str(key)) or is_credential(str(key))
            _add_leaves(secrets, value, str(key), hide=is_hidden)
    elif isinstance(document, list):
        for value in document:
            _add_leaves(secrets, value, name, hide=hide)
    elif isinstance(document, str) and "env_var(" in document:
        secrets.settings |= set() if hide else {match["default"] or "" for match in ENV_VAR.finditer(document)}
    elif document is not None and not isinstance(document, bool):
        if hide:
            _add_header(secrets, str(document))
        elif USER.search(name.lower()):
            secrets.users.add(str(document))
            secrets.settings.add(str(document))
        else:
            secrets.settings.add(str(document))
            _add_url(secrets, str(document), is_endpoint=name.lower() == "url")


def profile_variables(document: Any, *, secret: bool = False) -> Iterator[ProfileVariable]:
    """Yield the variables that a part of `profiles.yml` reads; the key or the variable's name may mark it as secret."""
    if isinstance(document, dict):
        for key, value in document.items():
            yield from profile_variables(value, secret=secret or is_credential(str(key)))
    elif isinstance(document, list):
        for value in document:
            yield from profile_variables(value, secret=secret)
    elif isinstance(document, str):
        for match in ENV_VAR.finditer(document):
            default = None if match["comma"] is None else match["default"] or ""
            yield ProfileVariable(match["name"], default, secret or is_credential(match["name"]))


def _read_yaml(secrets: Secrets, file: Path) -> list[Any]:
    """Return a file's content twice: with dates and numbers as written, and as YAML reads it."""
    text = b""
    # `floe doctor` reports a file that cannot be read.
    with suppress(OSError, yaml.YAMLError, UnicodeDecodeError, ValueError):
        text = file.read_bytes()
        return [yaml.load(text, _AsWritten), yaml.safe_load(text)]  # noqa: S506 - derived from SafeLoader
    _add_lines(secrets, text.decode(errors="replace"))
    return []


def _add_lines(secrets: Secrets, text: str) -> None:
    """Add the secrets of a file that is not valid YAML, because dbt's own error quotes its lines."""
    headers: int | None = None  # indentation of `headers:`, while the lines below it are read
    for line in text.splitlines():
        indentation = len(line) - len(line.lstrip())
        headers = None if headers is not None and indentation <= headers else headers
        for name, value in ENTRY.findall(line):
            if _is_headers(name) and not value.strip():
                headers = indentation
            elif "env_var(" in value:
                continue
            elif headers is not None or is_credential(name):
                # A comment, or the end of a mapping in braces, may follow.
                for written in (value, re.split(r"\s#|[,}]", value)[0]):
                    _add_header(secrets, written.strip().strip("\"'"))
            else:
                _add_url(secrets, value.strip().strip("\"'"), is_endpoint=name.lower() == "url")


def _read_json(text: str) -> Any:
    with suppress(json.JSONDecodeError, RecursionError):
        return json.loads(text)
    return None
