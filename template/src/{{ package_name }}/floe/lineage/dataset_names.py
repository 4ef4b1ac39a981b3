"""The OpenLineage name of a dbt node's table or file.

The warehouse names tables (`warehouse.py`), and the location names data in files (`locations.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..dbt.deferral import DEFERRED
from ..dbt.manifest_graph import Node, is_external, relation_text, table_id
from ..warehouse import Connection, Warehouse
from .locations import DatasetName, name_location, name_relation


class DatasetNames:
    """The names of one run's tables and files, each determined once."""

    def __init__(self, warehouse: Warehouse, connection: Connection, folder: Path) -> None:
        """Name tables of `warehouse`, reached through `connection`, for a dbt that runs in `folder`."""
        self._warehouse = warehouse
        self._connection = connection
        self._folder = folder
        self._names: dict[tuple[str, str], DatasetName | None] = {}
        self.namespace = warehouse.namespace(connection)

    def name(self, node: Node) -> DatasetName | None:
        """Return the name of a node's table or file, or None if it has no certain name, as some sources."""
        key = table_id(node)
        if key not in self._names:
            self._names[key] = self._file(node) if is_external(node) else self.name_output(node)
        return self._names[key]

    def name_output(self, node: Node) -> DatasetName:
        """Return the name of a node's output."""
        return self._file(node) or self._table(node)

    def is_file(self, node: Node) -> bool:
        """Return whether a node's data is in a file rather than in the warehouse."""
        return is_external(node) or self._file(node) is not None

    def alternative_names(self, node: Node) -> Sequence[tuple[str, str]]:
        """Return the other names of a node's table or file."""
        if is_external(node):
            return []
        table = self._table(node)
        # A file that a model writes is also a table of the engine.
        return [table] if self.is_file(node) else self._warehouse.alternative_names(self._connection, table.name)

    def _file(self, node: Node) -> DatasetName | None:
        if is_external(node):
            return name_relation(relation_text(node), self._folder)
        if node.get(DEFERRED):  # the folder of the other run is unknown, only its relation is known
            return None
        location = self._warehouse.location(self._connection, node)
        return name_location(location, self._folder) if location else None

    def _table(self, node: Node) -> DatasetName:
        database = str(node.get("database") or "")
        attached = self._warehouse.attached(self._connection, database, self._folder)
        namespace, database = attached or (self.namespace, database)
        identifier = node.get("identifier") or node.get("alias") or node["name"]
        parts = {"database": database, "schema": node.get("schema"), "identifier": identifier}
        # dbt's relation name shows which parts are quoted. The engine folds the others.
        shown = str(node.get("relation_name") or "")
        folded = {
            kind: part if not part or f'"{part}"' in shown else self._warehouse.fold(part)
            for kind, part in parts.items()
        }
        return DatasetName(namespace, self._warehouse.dataset_name(folded))
