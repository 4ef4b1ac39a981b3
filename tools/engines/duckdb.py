"""DuckDB: the real engine, in dbt's own process. There is nothing to start; its file is removed at the end."""

from __future__ import annotations

from pathlib import Path

from tools.engines import Engine, Rows, ask_driver
from tools.engines.environments import version_of


class DuckDB(Engine):
    """A file."""

    title = "DuckDB"
    real = True
    schema = "main"

    def start(self) -> dict[str, str]:
        return {"DUCKDB_PATH": str(self._file)}

    def version(self) -> str:
        return version_of(self.python, "duckdb")

    def query(self, sql: str) -> Rows:
        return ask_driver(self.python, "duckdb", {"database": str(self._file), "read_only": True}, sql)

    @property
    def _file(self) -> Path:
        return self.folder / "warehouse.duckdb"


ENGINE = DuckDB
