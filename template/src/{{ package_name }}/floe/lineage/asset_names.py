"""The OpenLineage names of the tables and files behind Dagster's assets.

An asset of dbt, or one with the key of a dbt source, has the name that dbt's own events give it. Any other asset is
named by what it says of itself: `dagster/uri`, `dagster/table_name`, or the path that an I/O manager has written. An
asset that says nothing, or a table whose warehouse is not certain, has no name.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg

from ..assets.catalog import AssetCatalog
from ..dbt.manifest_graph import Node, is_table, relation
from ..dbt.profile import read_connection
from ..settings import Settings
from ..target import TARGET
from ..warehouse import DUCKDB, Connection, Warehouse, other_warehouse
from .dataset_names import DatasetNames
from .locations import DatasetName, name_location

URI = "dagster/uri"
TABLE_NAME = "dagster/table_name"
PATH = "path"  # of Dagster's I/O managers that write files
KIND_TAG = "dagster/kind/"


class AssetNames:
    """The names of a code location's assets in the project's warehouse and in files."""

    def __init__(self, catalog: AssetCatalog, settings: Settings) -> None:
        self._catalog = catalog
        self._settings = settings

    def name(self, key: dg.AssetKey, metadata: Mapping[str, Any], kinds: Collection[str] = ()) -> DatasetName | None:
        """Return the name of an asset, or None if it has no certain one.

        Args:
            key: The asset's key.
            metadata: Its metadata as plain values.
            kinds: Its kinds, such as the name of a warehouse.

        Raises:
            ProfileError: The asset is a table, and the connection of `profiles.yml` cannot be read.
        """
        if known := self._catalog.dbt_node(key):
            node = known[0]
            return self._tables.name(node) if is_table(node) else None
        if isinstance(uri := metadata.get(URI), str):
            return name_location(uri, Path.cwd()) if ":" in uri else None
        if isinstance(table := metadata.get(TABLE_NAME), str):
            return self._table(table, {kind.lower() for kind in kinds})
        path = metadata.get(PATH)
        if isinstance(path, dg.PathMetadataValue):
            path = path.value
        elif not isinstance(path, Path):  # text of the owner's, which may mean anything
            return None
        return name_location(str(path), Path.cwd()) if path else None

    def alternative_names(self, key: dg.AssetKey) -> list[tuple[str, str]]:
        """Return the other names of an asset of dbt."""
        known = self._catalog.dbt_node(key)
        return list(self._tables.alternative_names(known[0])) if known else []

    def _table(self, name: str, kinds: Collection[str]) -> DatasetName | None:
        parts = name.split(".")
        if not all(parts):
            return None
        if node := self._dbt_tables.get(tuple(part.lower() for part in parts)):
            return self._tables.name(node)
        wanted = self._warehouse.parts
        if len(parts) != len(wanted):
            return None
        # Only a warehouse that the asset names, or a database that dbt builds in, is certain to be the project's.
        if self._warehouse.adapter not in kinds and not (len(parts) == 3 and parts[0].lower() in self._databases):
            return None
        return self._tables.name_output({**dict(zip(wanted, parts, strict=True)), "resource_type": "model", "name": ""})

    @cached_property
    def _dbt_tables(self) -> Mapping[tuple[str, ...], Node]:
        """Return the tables of dbt by the parts of their names in lower case."""
        nodes = [
            node
            for manifest in self._catalog.manifests
            for kind in ("sources", "nodes")
            for node in manifest.get(kind, {}).values()
            if is_table(node)
        ]
        return {relation(node): node for node in nodes}

    @cached_property
    def _databases(self) -> set[str]:
        return {parts[0] for parts in self._dbt_tables if len(parts) == 3}

    @cached_property
    def _connection(self) -> Connection:
        keys = {*TARGET.connection_keys, *DUCKDB.connection_keys}
        connection = read_connection(self._settings, sorted(keys))
        if "attach" in connection:
            connection["attach"] = [
                SimpleNamespace(**{"type": None, "alias": None, **attachment}) for attachment in connection["attach"]
            ]
        path = str(connection.get("path") or "")
        if path and ":" not in path:  # as dagster-dbt reads it
            connection["path"] = str(self._settings.dbt_project_dir / path)
        return connection

    @cached_property
    def _warehouse(self) -> Warehouse:
        adapter = self._connection["type"]
        known = {warehouse.adapter: warehouse for warehouse in (DUCKDB, TARGET)}
        return known.get(adapter) or other_warehouse(adapter)

    @cached_property
    def _tables(self) -> DatasetNames:
        return DatasetNames(self._warehouse, self._connection, self._settings.dbt_project_dir)
