"""The redactor, which replaces secrets in everything that leaves the process.

A secret that is distinguishable from ordinary text is redacted everywhere, however a client escapes its characters.
A *plain* secret is short, an ordinary word, or equal to a public setting. It is redacted only next to a sign of
credentials: in `password=postgres` and `user:postgres@host`, but not in a path or a table's name. Redacting it
everywhere would garble the text and reveal the secret: `[hidden]ql` and `data/[hidden]` give the word away.

A part of a secret is redacted only where an ellipsis shows that something was cut off there. Without that sign, parts
would have to be searched for everywhere, which would hide words and paths that a secret happens to contain.
"""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import lru_cache
from typing import Any
from urllib.parse import quote

from ..settings import settings
from .secret_forms import BYTES, as_utf_8, base64_forms, base64_texts, encodings, pattern_of, unescaped_part
from .secret_values import read_secrets

HIDDEN = "[hidden]"
ANSI_CODES = re.compile(r"\x1b\[[0-9;]*m")  # colors of a terminal, which may stand within a secret
# A secret is plain if it is shorter than `SHORTEST`, or has only words or only digits and is shorter than
# `SHORTEST_WORD`.
SHORTEST = 6
SHORTEST_WORD = 12
WORD = re.compile(r"[A-Za-z]+([_.-][A-Za-z]+)*|\d+")
# user:password@ in any URL, ours or not. A name alone before the @ is just as often a container or a bucket.
USERINFO = re.compile(r"(?<=://)[^\s/@:\"'\\]*:[^\s/@\"'\\]+(?=@)")
# The signature in a URL that grants access to a file, ours or not; in JSON and HTML, the & is escaped.
SIGNATURE = re.compile(
    r"([?&;]|\\u0026)(sig|(?:x-(?:amz|goog)-)?signature)=[\w%.~+/=-]+",
    re.IGNORECASE,
)
# Text that precedes a credential: password=, "token": ", Bearer, --password, password is.
SIGN = re.compile(
    r"""(?:(?:passw(?:or)?d|passphrase|(?<![a-z])(?:pass|pwd?)|(?<!unexpected )token|secret|cred(?:ential)?s?|cookie"""
    r"""|authorization"""
    r"""|(?:api|access|account|private|secret)[_-]?key)\\*["']?\s*[:=]>?\s*"""
    # Not `key = '…'`, which compares a column in SQL.
    r"""|(?<![a-z_.])key(?:\\*["']?\s*:\s*|=(?!\\*'))"""
    r"""|(?:passw(?:or)?d|passphrase|token|secret)\s+(?:(?:is|was)\s+|(?=\\*["']))"""
    r"""|--?(?:password|token)\s+|\b(?:bearer|basic)\s+)\\*["'({]?\Z""",
    re.IGNORECASE,
)
# The whole base64 word that contains a part; in a URL, three of its characters are escaped.
AROUND = r"(?:[\w+/-]|%2[BbFf]){0,400}PART(?:[\w+/=-]|%2[BbFf]|%3[Dd])*"
# Where a client has cut a text, such as PostgreSQL in `LINE 5: ...`, and the shortest part of a secret beside it.
CUT = re.compile(r"[\s\[(<]{0,2}(?:\.{3,}|…)[\s\])>]{0,2}")
SHORTEST_PART = 8
SIGN_CHARACTERS = 40  # maximum length of a sign
CUES = ("pass", "pw", "token", "secret", "cred", "cookie", "authorization", "key", "bearer", "basic")

REDACTABLE = {str, bytes, list, tuple}  # not the metadata of Dagster's `Failure`, which must keep its types
# Attributes that only `OSError`, `ImportError`, `SyntaxError` and `UnicodeError` have, and that are not in `vars`.
OWN_ATTRIBUTES = ("strerror", "filename", "filename2", "msg", "text", "reason")

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
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, bytes):
        return hide(value.decode(errors=BYTES)).encode(errors=BYTES)
    if isinstance(value, dict):
        return {
            hide(key) if isinstance(key, str) and not key.isalpha() else key: redact_values(item, hide, str(key))
            for key, item in value.items()
        }
    if type(value) in {list, tuple}:  # others may not be iterable, such as Dagster's records
        items = [redact_values(item, hide, name) for item in value]
        return tuple(items) if isinstance(value, tuple) else items
    # Loggers show the repr of any other object.
    shown = hide(text := repr(value))
    return value if shown == text else shown


def redact_json(text: str, hide: Redactor) -> str:
    """Return a JSON document without secrets; the result is valid JSON."""
    return text if hide(text) == text else json.dumps(redact_values(json.loads(text), hide))


def redact_error(error: BaseException | None) -> None:
    """Redact an exception, its causes and its members, because others log and store them.

    The message of a group is fixed; its members are redacted.
    """
    hide, seen, errors = redactor(), set(), [error]
    while errors:
        if (error := errors.pop()) is None or id(error) in seen:
            continue
        seen.add(id(error))
        # The attributes, such as the command of a failed process, and those that only some classes have.
        own = {"args": error.args, **{name: getattr(error, name, None) for name in OWN_ATTRIBUTES}, **vars(error)}
        for name, value in own.items():
            if type(value) in REDACTABLE and (shown := redact_values(value, hide)) != value:
                with suppress(AttributeError, TypeError):  # a property of the class, or of another type
                    setattr(error, name, shown)
        members = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
        errors += [error.__cause__, error.__context__, *members]


@lru_cache(maxsize=4)
def _redactor(environment: tuple[tuple[str, str], ...]) -> Redactor:
    """Return the redactor for the secrets of an environment and of the files that it refers to, which are read once."""
    secrets = read_secrets(settings, dict(environment))
    public = "\n".join(secrets.settings)
    plain = {secret for secret in secrets.values if is_plain(secret, public)}
    pairs = [f"{user}:{secret}" for user in secrets.users for secret in plain]
    # Longest first, because one may be the beginning of another. The @ after a pair stays.
    targets = [(unescaped_part(secret), secret, "") for secret in sorted(secrets.values - plain, key=len, reverse=True)]
    targets += [(unescaped_part(pair), pair, "(?=@|%40)") for pair in sorted(pairs, key=len, reverse=True)]
    encoded = {part for secret in secrets.values - plain for part in base64_forms(secret)}
    encoded |= {base64.b64encode(content).decode().rstrip("=") for pair in pairs for content in encodings(pair)}
    parts = sorted({form for word in encoded for form in base64_texts(word)}, key=len, reverse=True)
    words = [re.compile(rf"{re.escape(word)}(?!\w)") for word in sorted(plain, key=len, reverse=True)]
    whole = "\0".join((*_uncut(secrets.values - plain), *parts))

    def hide(text: str) -> str:
        if "://" in text and "@" in text:
            text = USERINFO.sub(HIDDEN, text)
        if "://" in text and ("sig=" in text or "ignature=" in text):
            text = SIGNATURE.sub(rf"\1\2={HIDDEN}", text)
        # Hardly any text has a secret, and searching for letters is a hundred times as fast as a pattern.
        for anchor, secret, tail in targets:
            if anchor in text:
                text = pattern_of(secret, tail).sub(HIDDEN, text)
        for part in parts:
            if part in text:  # replace the whole base64 word, not its middle
                text = re.sub(AROUND.replace("PART", re.escape(part)), HIDDEN, text)
        if "..." in text or "…" in text:
            text = _hide_parts(text, whole)
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


def _uncut(secrets: Iterable[str]) -> Iterator[str]:
    """Yield the texts of which a part is redacted, each in its usual forms; the parts of a document are secrets too."""
    for secret in secrets:
        if not secret.startswith(("{", "[")) and "\n" not in secret:
            ascii_only = json.dumps(secret)[1:-1]
            unicode = json.dumps(secret, ensure_ascii=False)[1:-1]
            yield from {secret, secret.replace("'", "''"), ascii_only, unicode, quote(as_utf_8(secret), "")}


def _hide_parts(text: str, whole: str) -> str:
    """Redact the parts of secrets, all in `whole`, on both sides of each ellipsis."""
    shown, shown_to = [], 0
    for cut in CUT.finditer(text):
        start, end = cut.span()
        before, after = text[shown_to:start], text[end:]
        hidden_before = _shared(lambda size: before[-size:], whole)  # noqa: B023 - called at once
        hidden_after = _shared(lambda size: after[:size], whole)  # noqa: B023 - called at once
        shown += [
            before[: len(before) - hidden_before],
            HIDDEN * bool(hidden_before),
            cut[0],
            HIDDEN * bool(hidden_after),
        ]
        shown_to = end + hidden_after
    return "".join((*shown, text[shown_to:]))


def _shared(take: Callable[[int], str], whole: str) -> int:
    """Return the length of the longest part of a secret that `take` returns, or 0 if it is shorter than the minimum."""
    size, longest = SHORTEST_PART, 0
    if take(size) in _beginnings(whole):
        while len(part := take(size)) == size and part in whole:
            size, longest = size + 1, size
    return longest


@lru_cache(maxsize=4)
def _beginnings(whole: str) -> set[str]:
    """Return the shortest parts, because `whole` is too long to be searched at every ellipsis."""
    return {whole[at : at + SHORTEST_PART] for at in range(len(whole) - SHORTEST_PART + 1)}
