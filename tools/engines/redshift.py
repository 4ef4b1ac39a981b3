"""Redshift: PostgreSQL stands in, behind a proxy (redshift_proxy.py) that takes what only Redshift's driver sends.

The adapter, Amazon's driver and its protocol are the real ones. The engine is not: no distribution or sort keys
(removed on the way), no SUPER, no external or late-binding tables, no COPY or UNLOAD, no data shares, PostgreSQL's
planner, types and locks, and of Redshift's functions only those that redshift_shim.sql has. A green build shows that
dbt-redshift's SQL runs on PostgreSQL, not that Redshift takes all of it. TLS is off, and there is no IAM.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tools.engines.postgres import PASSWORD, USER, PostgreSQL
from tools.engines.process import Server, free_port

IS_SLOW = True  # `nox -s lanes` leaves it out


class Redshift(PostgreSQL):
    """A database cluster of PostgreSQL and the proxy before it."""

    title = "PostgreSQL behind a proxy"
    real = False
    authentication = "md5"  # what Redshift itself asks for; its driver cannot do PostgreSQL's SCRAM
    checks_secret = "REDSHIFT_PASSWORD"

    def __init__(self) -> None:
        super().__init__()
        self._proxy: Server | None = None
        self.port = free_port()

    def start(self) -> dict[str, str]:
        self.start_server(allow_system_table_mods="on")
        self.query(Path(__file__).with_name("redshift_shim.sql").read_text())
        self._proxy = Server(
            sys.executable,
            "-P",
            Path(__file__).with_name("redshift_proxy.py"),
            str(self.port),
            str(self.server_port),
            port=self.port,
            log=self.folder / "proxy.log",
            seconds=20,
        )
        return {
            "REDSHIFT_HOST": "127.0.0.1",
            "REDSHIFT_PORT": str(self.port),
            "REDSHIFT_DATABASE": self.database,
            "REDSHIFT_USER": USER,
            "REDSHIFT_PASSWORD": PASSWORD,
            "REDSHIFT_SSLMODE": "disable",
        }

    def stop(self) -> None:
        if self._proxy:
            self._proxy.stop()
        super().stop()


ENGINE = Redshift
