"""The facts about a warehouse that lineage and tracing need, and those of DuckDB.

`target.py` defines the warehouse of the outputs `dev` and `prod`. Names follow OpenLineage's naming page
(https://openlineage.io/docs/spec/naming) if it covers the engine.
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

# The values of a dbt connection, under the names in the adapter's credentials.
Connection = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Warehouse:
    """A database engine.

    Attributes:
        adapter: dbt's adapter type.
        db_system: `db.system.name` of OpenTelemetry's semantic conventions.
        dialect: sqlglot's name for its SQL.
        connection_keys: The only fields of the credentials that lineage and tracing read. None is secret.
        namespace: Connection -> OpenLineage namespace of its tables.
        parts: The parts of a relation that make up a table's name.
        fold: Unquoted identifier -> the identifier as the engine stores it.
        attached: Connection, database and dbt's working folder -> namespace and name of that database, if it is a
            separate one that is attached to the connection.
        location: Connection and dbt node -> location of the node's data, if it is outside the engine.
        alternative_names: Connection and table name -> namespaces and names that other tools use for the table.
        rows_of_create: The row count that the engine reports for every `create table as`, if it is not the real count.
        format_key: The key of a model's config that names its table format.
        recreates_seeds: Whether dbt always drops the table of a seed before it loads the file.
        catalog: The type of catalog that its databases belong to, such as `unity`.
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
    alternative_names: Callable[[Connection, str], Sequence[tuple[str, str]]] = lambda _connection, _name: ()
    rows_of_create: int | None = None
    format_key: str = "table_format"
    recreates_seeds: bool = False
    catalog: str | None = None

    def dataset_name(self, relation: Mapping[str, str | None]) -> str:
        """Return the OpenLineage name of a table from its database, schema and identifier."""
        return ".".join(part for part in (relation.get(name) for name in self.parts) if part)


def _duckdb_namespace(connection: Connection) -> str:
    # The specification does not cover DuckDB. This is dbt-ol's name, but with an absolute path, because the relative
    # paths of two projects would collide.
    return f"duckdb://{_database_path(str(connection.get('path') or ':memory:'), Path.cwd())}"


def _duckdb_attached(connection: Connection, database: str, folder: Path) -> tuple[str, str] | None:
    """Return the namespace and name that an attached database has in runs that connect to it directly."""
    for attachment in connection.get("attach") or ():
        path, kind = str(attachment.path), attachment.type
        file = Path(path.partition("?")[0])
        is_file = ":" not in path or path.startswith(MOTHERDUCK)
        if is_file and kind in {None, "duckdb"} and database.lower() == str(attachment.alias or file.stem).lower():
            name = file.stem if ":" not in path else path.partition("?")[0].partition(":")[2]
            return f"duckdb://{_database_path(path, folder)}", name or database
    return None


def _database_path(path: str, folder: Path) -> str:
    # The part after the ? may hold a token.
    path = path.partition("?")[0]
    # dagster-dbt mistakes MotherDuck's md:name for a path in dbt's folder.
    if (name := path.rpartition("/")[2]).startswith(MOTHERDUCK):
        return name
    return path if ":" in path else os.path.normpath(folder / path)


def _duckdb_location(connection: Connection, node: Mapping[str, Any]) -> str | None:
    """Return the file that dbt-duckdb's materialization `external` writes; the table is a view of that file."""
    config = node.get("config") or {}
    if config.get("materialized") != "external":
        return None
    identifier = node.get("alias") or node["name"]
    suffix = "" if (config.get("options") or {}).get("partition_by") else f".{config.get('format') or 'parquet'}"
    location = str(config.get("location") or f"{connection.get('external_root') or '.'}/{identifier}{suffix}")
    return None if JINJA.search(location) else location  # Jinja is rendered only when the model runs


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
    """Return the known facts about an engine that is neither this project's target nor DuckDB."""
    return Warehouse(
        adapter=adapter,
        db_system=adapter,
        dialect=adapter,
        connection_keys=("host", "port"),
        namespace=lambda connection: f"{adapter}://{connection.get('host', '')}:{connection.get('port', '')}",
    )
