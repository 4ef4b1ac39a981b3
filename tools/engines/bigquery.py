"""BigQuery: crucible stands in, which translates GoogleSQL to DuckDB's SQL and speaks BigQuery's REST API.

The adapter, Google's client and its sign-in (application default credentials: a key file, a signed token, an exchange
at a token server, which is ours) are the real ones, and the shipped profile is used as it is. Not real: the engine
(a green build does not prove the SQL valid on BigQuery, nor what it would bill), partitioning, clustering, locations,
scripting (`declare`, so no dynamic insert_overwrite), the Storage API; tokens are not checked, and there is no TLS.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from tools.engines import Engine, EngineError, Rows
from tools.engines.certificates import write_private_key
from tools.engines.environments import python_of, version_of
from tools.engines.process import Server, free_port

PROJECT = "a-project"
DATASET = "shop"


class TokenHandler(BaseHTTPRequestHandler):
    """Google's token server (https://developers.google.com/identity/protocols/oauth2/service-account), for any key."""

    def do_POST(self) -> None:
        """Answer with a token."""
        body = json.dumps({"access_token": "a-token", "expires_in": 3600, "token_type": "Bearer"}).encode()
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing: the output belongs to the test."""


class BigQuery(Engine):
    """A server that keeps its datasets in memory, and a token server."""

    title = "crucible"
    real = False
    schema = f"`{PROJECT}`.{DATASET}"

    def __init__(self) -> None:
        super().__init__()
        self._server: Server | None = None
        self._tokens: ThreadingHTTPServer | None = None
        self.port = free_port()

    def start(self) -> dict[str, str]:
        python = python_of("bigquery")
        self._server = Server(
            python.with_name("crucible"),
            *("serve", "--dialect", "bigquery", "--port", str(self.port)),
            port=self.port,
            log=self.folder / "crucible.log",
            seconds=60,
        )
        self._tokens = ThreadingHTTPServer(("127.0.0.1", 0), TokenHandler)
        Thread(target=self._tokens.serve_forever, daemon=True).start()
        return {
            "GCP_PROJECT": PROJECT,
            "BQ_DATASET": DATASET,
            "GOOGLE_APPLICATION_CREDENTIALS": str(self._write_credentials(self._tokens.server_port)),
            # Read by Google's client.
            "BIGQUERY_EMULATOR_HOST": f"http://127.0.0.1:{self.port}",
        }

    def version(self) -> str:
        return version_of(python_of("bigquery"), "crucible-emulator")

    def query(self, sql: str) -> Rows:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/bigquery/v2/projects/{PROJECT}/queries",
            json.dumps({"query": sql, "useLegacySql": False}).encode(),
            {"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                answer = json.load(response)
        except urllib.error.HTTPError as error:
            raise EngineError(error.read().decode(errors="replace")) from error
        return [tuple(cell["v"] for cell in row["f"]) for row in answer.get("rows", [])]

    def stop(self) -> None:
        if self._tokens:
            self._tokens.shutdown()
            self._tokens.server_close()
        if self._server:
            self._server.stop()
        super().stop()

    def _write_credentials(self, token_port: int) -> Path:
        key = self.folder / "key.pem"
        write_private_key(key)
        file = self.folder / "credentials.json"
        content = {
            "type": "service_account",
            "project_id": PROJECT,
            "private_key": key.read_text(),
            "client_email": f"dbt@{PROJECT}.iam.gserviceaccount.com",
            "token_uri": f"http://127.0.0.1:{token_port}/token",
        }
        file.write_text(json.dumps(content))
        return file


ENGINE = BigQuery
