"""Snowflake: fakesnow stands in, which translates Snowflake's SQL to DuckDB's and speaks the driver's HTTP protocol.

The adapter, Snowflake's driver, its key-pair sign-in (a real RSA key, a signed token) and its wire format are the
real ones. Not real: the engine (DuckDB's types, time zones and transactions, so a green build does not prove the SQL
valid on Snowflake), roles, warehouses, clustering, time travel, query tags; no sign-in is checked, and there is no
TLS. A timestamp that is null reaches the driver as 1970. Only one thread was tried. fakesnow_server.py closes three
gaps of fakesnow.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tools.engines import Engine, Rows, ask_driver
from tools.engines.certificates import write_private_key
from tools.engines.environments import python_of, version_of
from tools.engines.process import Server, free_port

ACCOUNT = "fakesnow"
DATABASE = "ANALYTICS"


class Snowflake(Engine):
    """A server that keeps its databases in memory."""

    title = "fakesnow"
    real = False
    schema = f"{DATABASE}.PUBLIC"

    def __init__(self) -> None:
        super().__init__()
        self._server: Server | None = None
        self.port = free_port()
        self._key = self.folder / "key.p8"

    def start(self) -> dict[str, str]:
        write_private_key(self._key)
        # An account's host is made from its name; these keys of the adapter say otherwise.
        self.profile = {"host": "127.0.0.1", "port": self.port, "protocol": "http", "threads": 1}
        self._server = Server(
            python_of("snowflake"),
            "-P",
            Path(__file__).with_name("fakesnow_server.py"),
            str(self.port),
            port=self.port,
            log=self.folder / "fakesnow.log",
            seconds=60,
        )
        return {
            "SNOWFLAKE_ACCOUNT": ACCOUNT,
            "SNOWFLAKE_USER": "ANALYST",
            "SNOWFLAKE_DATABASE": DATABASE,
            "SNOWFLAKE_WAREHOUSE": "TRANSFORMING",
            "DBT_PRIVATE_KEY_PATH": str(self._key),
            # The driver else asks the network which cloud it runs in.
            "SNOWFLAKE_DISABLE_PLATFORM_DETECTION": "true",
        }

    def version(self) -> str:
        return version_of(python_of("snowflake"), "fakesnow")

    def query(self, sql: str) -> Rows:
        connection: dict[str, Any] = {"account": ACCOUNT, "user": "ANALYST", "private_key_file": str(self._key)}
        connection |= {key: self.profile[key] for key in ("host", "port", "protocol")}
        return ask_driver(self.python, "snowflake.connector", connection, sql)

    def stop(self) -> None:
        if self._server:
            self._server.stop()
        super().stop()


ENGINE = Snowflake
