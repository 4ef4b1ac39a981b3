"""The redactor, which replaces secrets in everything that leaves the process.

A secret that is distinguishable from ordinary text is redacted everywhere, in every form that a client may give it.
A *plain* secret is short, an ordinary word, or equal to a public setting. It is redacted only next to a sign of
credentials: in `password=postgres` and `user:postgres@host`, but not in a path or a table's name. Redacting it
everywhere would garble the text and reveal the secret: `[hidden]ql` and `data/[hidden]` give the word away.
"""

from __future__ import annotations

import base64
import html
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import lru_cache
from typing import Any
from urllib.parse import quote, quote_plus

from .secret_values import read_secrets
from .settings import settings

HIDDEN = "[hidden]"
ANSI_CODES = re.compile(r"\x1b\[[0-9;]*m")  # colors of a terminal, which may stand within a secret
BYTES = "surrogateescape"
# A secret is plain if it is shorter than `SHORTEST`, or has only words or only digits and is shorter than
# `SHORTEST_WORD`.
SHORTEST = 6
SHORTEST_WORD = 12
WORD = re.compile(r"[A-Za-z]+([_.-][A-Za-z]+)*|\d+")
# user:password@ in any URL, ours or not. A name alone before the @ is just as often a container or a bucket.
USERINFO = re.compile(r"(?<=://)[^\s/@:\"'\\]*:[^\s/@\"'\\]+(?=@)")
# Text that precedes a credential: password=, "token": ", Bearer, --password, password is.
SIGN = re.compile(
    r"""(?:(?:passw(?:or)?d|passphrase|(?<![a-z])(?:pass|pwd)|(?<!unexpected )token|secret|credentials?|authorization"""
    r"""|(?:api|access|account|private|secret)[_-]?key)\\*["']?\s*[:=]>?\s*"""
    # Not `key = '…'`, which compares a column in SQL.
    r"""|(?<![a-z_.])key(?:\\*["']?\s*:\s*|=(?!\\*'))"""
    r"""|(?:passw(?:or)?d|passphrase|token|secret)\s+(?:(?:is|was)\s+|(?=\\*["']))"""
    r"""|--?(?:password|token)\s+|\b(?:bearer|basic)\s+)\\*["'(]?\Z""",
    re.IGNORECASE,
)
AROUND = r"[\w+/-]{0,400}PART[\w+/=-]*"  # the whole base64 word that contains a part
SIGN_CHARACTERS = 40  # maximum length of a sign
CUES = ("pass", "pwd", "token", "secret", "credential", "authorization", "key", "bearer", "basic")

Redactor = Callable[[str], str]


def redact(text: str) -> str:
    """Return `text` without secrets."""
    return redactor()(text)


def redactor() -> Redactor:
    """Return a function like `redact` for many texts; it reads the environment only once."""
    return _redactor(tuple(os.environ.items()))


def redact_values(value: Any, hide: Redactor | None = None, name: str = "") -> Any:
    """Return a value without secrets, nested ones included; a mapping's key may be a sign of credentials."""
    hide = hide or redactor()
    if isinstance(value, str):
        # Test name and value as one text, so that the name can act as the sign.
        is_secret = bool(name and SIGN.search(f"{name}=")) and hide(f"password={value}") == f"password={HIDDEN}"
        return HIDDEN if is_secret else hide(value)
    if isinstance(value, dict):
        return {key: redact_values(item, hide, str(key)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [redact_values(item, hide, name) for item in value]
    return value


def redact_json(text: str, hide: Redactor) -> str:
    """Return a JSON document without secrets; the result is valid JSON."""
    return text if hide(text) == text else json.dumps(redact_values(json.loads(text), hide))


def redact_error(error: BaseException | None) -> None:
    """Redact the messages of an exception and of its causes, because Dagster stores them in its event log."""
    hide, seen = redactor(), set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        args = tuple(hide(arg) if isinstance(arg, str) else arg for arg in error.args)
        if args != error.args:
            error.args = args
        if isinstance(description := getattr(error, "description", None), str):
            error.description = hide(description)  # type: ignore[attr-defined]
        error = error.__cause__ or error.__context__


@lru_cache(maxsize=4)
def _redactor(environment: tuple[tuple[str, str], ...]) -> Redactor:
    """Return the redactor for the secrets of an environment and of the files that it refers to, which are read once."""
    secrets = read_secrets(settings, dict(environment))
    public = "\n".join(secrets.settings)
    plain = {secret for secret in secrets.values if is_plain(secret, public)}
    needles = {form for secret in secrets.values - plain for form in forms(secret)}
    needles |= {_in_json(needle) for needle in needles}  # for an event that is already JSON
    pairs = [f"{user}:{secret}" for user in secrets.users for secret in plain]
    needles |= {f"{pair}@" for pair in pairs}
    encoded = {part for secret in secrets.values - plain for part in _base64(secret)}
    encoded |= {base64.b64encode(content).decode().rstrip("=") for pair in pairs for content in _encodings(pair)}
    # Longest first, because one may be the beginning of another. For base64, replace the whole word, not its middle.
    by_length = [re.escape(needle) for needle in sorted(needles, key=len, reverse=True)]
    by_length += [AROUND.replace("PART", re.escape(part)) for part in sorted(encoded, key=len, reverse=True)]
    pattern = re.compile("|".join(by_length))
    words = [re.compile(rf"{re.escape(word)}(?!\w)") for word in sorted(plain, key=len, reverse=True)]
    literals = (*needles, *encoded)

    def hide(text: str) -> str:
        if "://" in text and "@" in text:
            text = USERINFO.sub(HIDDEN, text)
        # Hardly any text has a secret, and searching for literals is a hundred times as fast as the pattern.
        if any(literal in text for literal in literals):
            text = pattern.sub(lambda match: HIDDEN + "@" * match[0].endswith("@"), text)
        lower = text.lower()
        if words and any(cue in lower for cue in CUES):
            for word in words:
                text = word.sub(lambda match: HIDDEN if _has_sign(match) else match[0], text)
        return text

    return hide


def is_plain(secret: str, public: str = "") -> bool:
    """Return whether a secret is indistinguishable from ordinary text; `public` is the text of all public settings."""
    if len(secret) < SHORTEST or (len(secret) < SHORTEST_WORD and WORD.fullmatch(secret)):
        return True
    if secret not in public:
        return False
    # A public setting may contain the secret itself, as in path?token=…
    return any(not _has_sign(match) for match in re.finditer(rf"(?<!\w){re.escape(secret)}(?!\w)", public))


def _has_sign(match: re.Match[str]) -> bool:
    start = match.start()
    return bool(SIGN.search(match.string[max(0, start - SIGN_CHARACTERS) : start]))


def forms(secret: str) -> Iterator[str]:
    """Yield a secret in its forms in text, URLs, JSON (also within JSON or repr), Python's repr, HTML and SQL."""
    yield secret
    # A variable is not necessarily UTF-8.
    for form in (quote(secret, "", errors=BYTES), quote(secret, errors=BYTES), quote_plus(secret, errors=BYTES)):
        yield form
        yield re.sub(r"%[0-9A-F]{2}", lambda match: match[0].lower(), form)
    yield _in_json(secret)
    yield json.dumps(secret)[1:-1]
    yield json.dumps(json.dumps(secret)[1:-1])[1:-1]
    yield repr(secret)[1:-1]
    # Other parts of a text decide how repr quotes it. With a double quote, as in all JSON, it escapes single ones.
    for form in (secret, _in_json(secret), json.dumps(secret)[1:-1]):
        yield repr("\"'" + form)[4:-1]
        yield repr(f'"{form}')[2:-1]
    yield repr(secret.encode(errors=BYTES))[2:-1]
    yield html.escape(secret)
    yield secret.replace("'", "''")


def _in_json(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]


def _base64(secret: str) -> Iterator[str]:
    """Yield the base64 forms of a secret at any position in the encoded text, as in `user:password`."""
    for content in _encodings(secret):
        for offset in range(3):
            encoded = base64.b64encode(b"\0" * offset + content).decode().rstrip("=")
            # The first and last characters also depend on the text around the secret.
            inner = encoded[(0, 2, 3)[offset] : -1 if (offset + len(content)) % 3 else None]
            yield inner
            yield inner.translate(str.maketrans("+/", "-_"))


def _encodings(text: str) -> set[bytes]:
    """Return the bytes of a text in UTF-8, and in Latin-1 if it can be encoded, as requests does with a password."""
    encoded = {text.encode(errors=BYTES)}
    with suppress(UnicodeEncodeError):
        encoded.add(text.encode("latin-1"))
    return encoded
