"""The time since which each table, and all that it reads, has had the same definition.

A catalog that is older tells nothing about the table.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable

from ...dbt.deferral import DEFERRED
from ...dbt.manifest_graph import Graph, Node, config_of, materialized, table_id
from .cache import BuiltTable, ColumnCache

# The relations that change with what they read.
VIEWS = {"view", "materialized_view", "dynamic_table"}


class LastChanges:
    """The last changes of one run's tables, from what the run has built and from what earlier runs have cached."""

    def __init__(self, graph: Graph, column_cache: ColumnCache, table_name: Callable[[Node], str]) -> None:
        """Find in the cache what earlier runs have built; `table_name` gives the name of a table there."""
        self._graph = graph
        self._cache = column_cache
        self._table_name = table_name
        self._since: dict[tuple[str, str], float] = {}
        self._earlier: dict[tuple[str, str], float] = {}  # of tables that this run has not built
        self._definitions: dict[tuple[str, str], str] = {}

    def built(self, node: Node, before: BuiltTable | None, *, is_written: bool, is_new: bool | None) -> None:
        """Record that this run has built a table, or has failed to.

        Args:
            node: The node that builds it.
            before: The table as built by an earlier run; None if there is none.
            is_written: Whether the build has succeeded.
            is_new: Whether the build has created the table, rather than added rows; None if that is not known.
        """
        self._definitions.pop(table_id(node), None)
        self._earlier.clear()
        self._since[table_id(node)] = self._same_since(node, before, is_new=is_new) if is_written else time.time()

    def last(self, node: Node) -> float:
        """Return the time of a table's last known change in seconds since 1970, or 0 if none is known."""
        if not is_own(node):
            return float(node.get(DEFERRED) or 0.0)
        key = table_id(node)
        if key in self._since:
            return self._since[key]
        if key not in self._earlier:
            built = self._cache.table(self._table_name(node))
            upstream = self._graph.tables_upstream(node) if materialized(node) in VIEWS else ()
            self._earlier[key] = max([built.since if built else 0.0, *map(self.last, upstream)])
        return self._earlier[key]

    def definition(self, node: Node) -> str:
        """Return a hash of everything that a node itself says about the columns of its table."""
        key = table_id(node)
        if key not in self._definitions:
            columns = [
                [c.get(name) for name in ("name", "data_type", "quote")] for c in node.get("columns", {}).values()
            ]
            parts = [self._graph.compiled_sql(node), node.get("checksum"), config_of(node), columns]
            text = json.dumps(parts, sort_keys=True, default=str)
            self._definitions[key] = hashlib.sha256(text.encode()).hexdigest()
        return self._definitions[key]

    def _same_since(self, node: Node, before: BuiltTable | None, *, is_new: bool | None) -> float:
        if before is None:
            # Rows were added to a table of which only the catalog can tell.
            return 0.0 if is_new is False else time.time()
        if is_new is False:
            is_same = config_of(node).get("on_schema_change") != "sync_all_columns"
        else:
            is_same = before.definition == self.definition(node)
        if not is_same or before.owner != owner(node):
            return time.time()
        upstream = () if is_new is False else self._graph.tables_upstream(node)
        return max([before.since, *map(self.last, upstream)])


def is_own(node: Node) -> bool:
    """Return whether runs of this project build a node's table, rather than others, from which dbt defers."""
    return node["resource_type"] != "source" and not node.get(DEFERRED)


def owner(node: Node) -> tuple[str, str, str]:
    """Return what the cache knows the builder of a table by: its unique id, relation and materialization."""
    return (*table_id(node), materialized(node))
