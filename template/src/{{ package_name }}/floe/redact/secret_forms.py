"""The forms in which a secret may be written: escaped for another format, encoded, or in base64."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from html.entities import codepoint2name
from urllib.parse import quote

BYTES = "surrogateescape"
LETTERS = re.compile(r"[A-Za-z0-9]+")  # which no encoding but base64 changes
# The beginnings of escapes. Each may itself be escaped, but not without limit: that would take forever on some texts.
SLASHES, PERCENT, AMPERSAND = r"\\{1,8}", "%(?:25){0,4}", "&(?:amp;){0,4}"
UP_TO_8_SLASHES, ZEROS = r"\\{0,8}", "0{0,4}"
CONTROLS = {"\a": "a", "\b": "b", "\t": "t", "\n": "n", "\v": "v", "\f": "f", "\r": "r"}


def unescaped_part(secret: str) -> str:
    """Return the longest part of a secret that is the same in every encoding of text."""
    return max(LETTERS.findall(secret), key=len, default="")


@lru_cache(maxsize=1024)
def pattern_of(secret: str, tail: str) -> re.Pattern[str]:
    """Return the pattern of a secret as text, and as escaped, once or repeatedly, for another format."""
    return re.compile("".join(map(_character, re.findall(r"\\+|\}+|[^\\]", secret))) + tail)


def _character(character: str) -> str:
    """Return the pattern of one character, or of a row of backslashes or closing braces.

    It covers JSON of any library, repr of Python and others, URLs and forms, HTML and XML, SQL, shells and CSV.
    """
    if LETTERS.fullmatch(character):
        return character
    if character[0] == "\\":
        size = len(character)
        escaped = f"(?:{SLASHES}u005c|{PERCENT}5c|{AMPERSAND}(?:#0?92|#x0?5c);)"
        return rf"(?:\\{_times(size, 8 * size)}|(?i:{escaped}{_times(size, size)}))"
    if character[0] == "}":  # doubled in a connection string of ODBC
        return f"{_escaped('}')}{_times(len(character), 2 * len(character))}"
    return _escaped(character)


def _escaped(character: str) -> str:
    """Return the pattern of one character, raw or as an escape."""
    code = ord(character)
    # A variable is not necessarily UTF-8.
    utf_8 = character.encode(errors=BYTES if 0xDC80 <= code <= 0xDCFF else "surrogatepass")
    utf_16 = character.encode("utf-16-be", errors="surrogatepass")
    numbers = [utf_8, bytes([code])] if 0x80 <= code <= 0xFF else [utf_8]
    names = f"|{codepoint2name[code]}" if code in codepoint2name else "|apos" * (character == "'")
    escapes = [
        "".join(f"{SLASHES}u{utf_16[at : at + 2].hex()}" for at in range(0, len(utf_16), 2)),
        rf"{SLASHES}(?:U{code:08x}|u\x7b{ZEROS}{code:x}\x7d)",
        *("".join(f"{PERCENT}{byte:02x}" for byte in encoded) for encoded in numbers),
        *("".join(f"{SLASHES}x{byte:02x}" for byte in encoded) for encoded in numbers),
        f"{AMPERSAND}(?:#{ZEROS}{code}|#x{ZEROS}{code:x}{names});",
    ]
    raw = UP_TO_8_SLASHES + re.escape(character)
    if character in "'\"":  # doubled in SQL and CSV; in a shell, one of its own kind is quoted by the other
        other = "'\""[character == "'"]
        other = UP_TO_8_SLASHES + other
        raw = f"{raw}{other}{raw}{other}{raw}|{raw}{raw}|{raw}"
    if character == " ":
        raw += r"|\+"
    if character in CONTROLS:
        raw += f"|{SLASHES}{CONTROLS[character]}"
    return f"(?:{raw}|(?i:{'|'.join(escapes)}))"


def _times(least: int, most: int) -> str:
    return "".join(("{", str(least), ",", str(most), "}"))


def base64_forms(secret: str) -> Iterator[str]:
    """Yield the base64 forms of a secret at any position in the encoded text, as in `user:password`."""
    for content in encodings(secret):
        for offset in range(3):
            encoded = base64.b64encode(b"\0" * offset + content).decode().rstrip("=")
            # The first and last characters also depend on the text around the secret.
            inner = encoded[(0, 2, 3)[offset] : -1 if (offset + len(content)) % 3 else None]
            yield inner
            yield inner.translate(str.maketrans("+/", "-_"))


def base64_texts(word: str) -> set[str]:
    """Return a word in base64 as it stands in a text, in a URL and in JSON."""
    in_url = quote(word, safe="")
    return {word, in_url, in_url.replace("%2B", "%2b").replace("%2F", "%2f"), word.replace("/", r"\/")}


def encodings(text: str) -> set[bytes]:
    """Return the bytes of a text in UTF-8, and in Latin-1 if it can be encoded, as requests does with a password."""
    encoded = {as_utf_8(text)}
    with suppress(UnicodeEncodeError):
        encoded.add(text.encode("latin-1"))
    return encoded


def as_utf_8(text: str) -> bytes:
    """Return a text in UTF-8, even if JSON has given it half of a surrogate pair."""
    try:
        return text.encode(errors=BYTES)
    except UnicodeEncodeError:
        return text.encode(errors="surrogatepass")
