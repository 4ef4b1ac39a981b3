"""A proxy between Redshift's driver and PostgreSQL: `redshift_proxy.py PORT POSTGRESQL_PORT`, both on 127.0.0.1.

Speaks PostgreSQL's protocol 3.0 (https://www.postgresql.org/docs/current/protocol-message-formats.html). Changed on
the way: the start-up packet loses what only Redshift knows, and the texts of statements lose or quote what only
Redshift's grammar has. TLS is refused. It knows no literals: a rule would also change the inside of a string.
"""

from __future__ import annotations

import asyncio
import re
import struct
import sys
from contextlib import suppress

ONLY_REDSHIFT = {
    b"client_protocol_version", b"driver_version", b"os_version", b"driver_discovery_version", b"plugin_name",
}  # fmt: skip
SSL_REQUEST, GSS_REQUEST = 80877103, 80877104
PROTOCOL_3 = 196608
RULES = [
    (re.compile(pattern, re.IGNORECASE), replacement)
    for pattern, replacement in (
        # A bare word as the unit: dateadd(day, …) is a function call to PostgreSQL, with a column `day`.
        (rb"\b(dateadd|datediff)\s*\(\s*([a-z]+)\s*,", rb"\1('\2',"),
        # How rows are spread over the nodes of a cluster.
        (rb"\bdiststyle\s+(even|all|auto|key)\b|\b(distkey|(compound\s+|interleaved\s+)?sortkey)\s*\([^)]*\)", b""),
        (rb"\bsortkey\s+auto\b|\bbackup\s+(yes|no)\b|\bwith\s+no\s+schema\s+binding\b", b""),
        # PostgreSQL takes unknown settings only with a prefix.
        (rb"^(\s*(?:/\*.*?\*/)?\s*(?:set|reset))\s+query_group\b", rb"\1 redshift.query_group"),
    )
]


def rewritten(sql: bytes) -> bytes:
    """Return Redshift's SQL as PostgreSQL takes it."""
    for pattern, replacement in RULES:
        sql = pattern.sub(replacement, sql)
    return sql


def rewritten_message(kind: bytes, body: bytes) -> bytes:
    """Return a message of the client with its statement rewritten; only Query and Parse have one."""
    if kind == b"Q":
        return rewritten(body)
    if kind == b"P":
        name, sql, rest = body.split(b"\0", 2)
        return b"\0".join((name, rewritten(sql), rest))
    return body


def rewritten_startup(body: bytes) -> bytes:
    """Return the parameters of a start-up packet without those that only Redshift has."""
    words = body.rstrip(b"\0").split(b"\0")
    kept = [(name, value) for name, value in zip(words[::2], words[1::2], strict=False) if name not in ONLY_REDSHIFT]
    return b"".join(name + b"\0" + value + b"\0" for name, value in kept) + b"\0"


async def serve(port: int, postgresql_port: int) -> None:
    """Accept clients until the process is ended."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A client may leave in the middle of a message.
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            await _handle(reader, writer, postgresql_port)

    async with await asyncio.start_server(handle, "127.0.0.1", port) as server:
        await server.serve_forever()


async def _handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, postgresql_port: int) -> None:
    code, body = await _startup(reader)
    while code in (SSL_REQUEST, GSS_REQUEST):
        writer.write(b"N")
        code, body = await _startup(reader)
    server_reader, server_writer = await asyncio.open_connection("127.0.0.1", postgresql_port)
    if code == PROTOCOL_3:
        body = rewritten_startup(body)
    server_writer.write(struct.pack("!II", len(body) + 8, code) + body)
    ends = {
        asyncio.ensure_future(_answers(server_reader, writer)),
        asyncio.ensure_future(_requests(reader, server_writer)),
    }
    _, other = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    for task in other:
        task.cancel()
    writer.close()
    server_writer.close()


async def _startup(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    length, code = struct.unpack("!II", await reader.readexactly(8))
    return code, await reader.readexactly(length - 8)


async def _requests(reader: asyncio.StreamReader, server: asyncio.StreamWriter) -> None:
    while True:
        kind, length = struct.unpack("!cI", await reader.readexactly(5))
        body = rewritten_message(kind, await reader.readexactly(length - 4))
        server.write(kind + struct.pack("!I", len(body) + 4) + body)
        await server.drain()


async def _answers(server: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await server.read(65536):
        writer.write(data)
        await writer.drain()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), int(sys.argv[2])))
