"""The facts that lineage and tracing need about a warehouse, and those of DuckDB.

The warehouse of the outputs `dev` and `prod` stands in `target.py`. Names follow OpenLineage's naming page
(https://openlineage.io/docs/spec/naming) where it has the engine.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MOTHERDUCK = ("md:", "motherduck:")
JINJA = re.compile("[{](?:[{]|%)")

# The values of a dbt connection, by the names that the adapter's credentials have.
Connection = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Warehouse:
    """One engine.

    Attributes:
        adapter: dbt's adapter type.
        db_system: `db.system.name` of OpenTelemetry's semantic conventions.
        dialect: sqlglot's name of its SQL.
        connection_keys: The only credentials that lineage and tracing read; none is secret.
        namespace: Connection -> the OpenLineage namespace of its tables.
        parts: Which of a relation's parts make a table's name.
        fold: An unquoted identifier -> as the engine keeps it.
        attached: Connection, a database and the folder that dbt runs in -> the namespace and the name of that database
            if it is one of its own, which the connection only reaches.
        location: Connection and a node of dbt's -> where the node's data lies, if that is not in the engine itself.
        others: Connection and a table's name -> the namespaces and names that other tools have for the table.
        rows_of_create: What the engine answers for the rows of any `create table as`, if that is no count.
        format_key: The entry of a model's config that names its table format.
        catalog: The kind of catalog that its databases are, such as `unity`.
    """

    adapter: str
    db_system: str
    dialect: str
    connection_keys: tuple[str, ...]
    namespace: Callable[[Connection], str]
    parts: tuple[str, ...] = ("database", "schema", "identifier")
    fold: Callable[[str], str] = str
    attached: Callable[[Connection, str, Path], tuple[str, str] | None] = lambda _connection, _database, _folder: None
    location: Callable[[Connection, Mapping[str, Any]], str | None] = lambda _connection, _node: None
    others: Callable[[Connection, str], Sequence[tuple[str, str]]] = lambda _connection, _name: ()
    rows_of_create: int | None = None
    format_key: str = "table_format"
    catalog: str | None = None

    def dataset_name(self, relation: Mapping[str, str | None]) -> str:
        """Return the OpenLineage name of a table from its database, schema and identifier."""
        return ".".join(part for part in (relation.get(name) for name in self.parts) if part)


def _duckdb_namespace(connection: Connection) -> str:
    # The specification has no DuckDB; this is dbt-ol's name, of an absolute path, since relative ones of two projects
    # would collide.
    return f"duckdb://{_database_path(str(connection.get('path') or ':memory:'), Path.cwd())}"


def _duckdb_attached(connection: Connection, database: str, folder: Path) -> tuple[str, str] | None:
    """Return the namespace and name that an attached database file has in runs of its own."""
    for attachment in connection.get("attach") or ():
        path, kind = str(attachment.path), attachment.type
        file = Path(path.partition("?")[0])
        is_file = ":" not in path or path.startswith(MOTHERDUCK)
        if is_file and kind in {None, "duckdb"} and database.lower() == str(attachment.alias or file.stem).lower():
            name = file.stem if ":" not in path else path.partition("?")[0].partition(":")[2]
            return f"duckdb://{_database_path(path, folder)}", name or database
    return None


def _database_path(path: str, folder: Path) -> str:
    # What follows a ? may hold a token.
    path = path.partition("?")[0]
    # dagster-dbt takes md:name, which is MotherDuck's, for a path in dbt's folder.
    if (name := path.rpartition("/")[2]).startswith(MOTHERDUCK):
        return name
    return path if ":" in path else os.path.normpath(folder / path)


def _duckdb_location(connection: Connection, node: Mapping[str, Any]) -> str | None:
    """Return the file that dbt-duckdb's materialization `external` writes; the table is a view of it."""
    config = node.get("config") or {}
    if config.get("materialized") != "external":
        return None
    identifier = node.get("alias") or node["name"]
    suffix = "" if (config.get("options") or {}).get("partition_by") else f".{config.get('format') or 'parquet'}"
    location = str(config.get("location") or f"{connection.get('external_root') or '.'}/{identifier}{suffix}")
    return None if JINJA.search(location) else location  # rendered only when the model runs


DUCKDB = Warehouse(
    adapter="duckdb",
    db_system="duckdb",
    dialect="duckdb",
    connection_keys=("path", "external_root", "attach"),
    namespace=_duckdb_namespace,
    attached=_duckdb_attached,
    location=_duckdb_location,
)


def other_warehouse(adapter: str) -> Warehouse:
    """Return what can be said of an engine that is neither this project's target nor DuckDB."""
    return Warehouse(
        adapter=adapter,
        db_system=adapter,
        dialect=adapter,
        connection_keys=("host", "port"),
        namespace=lambda connection: f"{adapter}://{connection.get('host', '')}:{connection.get('port', '')}",
    )
