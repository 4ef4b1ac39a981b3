"""The run's own manifest: dbt's nodes, and the SQL that was compiled for them.

The manifest that Dagster's assets were made from may be older, or of another target; it serves only until dbt has
written the run's.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

Node = Mapping[str, Any]

TABLES = {"model", "seed", "snapshot", "source"}


class Graph:
    """What a manifest says of each node, by dbt's unique id."""

    def __init__(self, manifest: Mapping[str, Any], target_path: Path) -> None:
        self.metadata: Mapping[str, Any] = manifest["metadata"]
        self._target_path = target_path
        self._nodes: dict[str, Node] = {
            unique_id: node
            for kind in ("nodes", "sources", "unit_tests")
            for unique_id, node in manifest.get(kind, {}).items()
        }

    @classmethod
    def read(cls, target_path: Path, fallback: Mapping[str, Any]) -> Graph:
        """Return the graph of the manifest in `target_path`, or of `fallback` if there is none yet."""
        own = target_path / "manifest.json"
        return cls(json.loads(own.read_bytes()) if own.exists() else fallback, target_path)

    def node(self, unique_id: str) -> Node:
        """Return a node; one that the manifest lacks is only as much as its id tells."""
        bare = {"unique_id": unique_id, "resource_type": unique_id.partition(".")[0], "name": unique_id}
        return self._nodes.get(unique_id, bare)

    def tables_upstream(self, node: Node) -> Iterator[Node]:
        """Yield the tables that a node reads, those behind ephemeral models included."""
        for unique_id in node.get("depends_on", {}).get("nodes", []):
            upstream = self.node(unique_id)
            if is_table(upstream):
                yield upstream
            elif materialized(upstream) == "ephemeral":
                yield from self.tables_upstream(upstream)

    def compiled_sql(self, node: Node) -> str | None:
        """Return a node's compiled SQL; dbt writes it before it runs the node."""
        if not node.get("original_file_path"):
            return None
        file = self._target_path / "compiled" / node["package_name"] / node["original_file_path"]
        if file.suffix in {".yml", ".yaml"}:  # of a generic test: a folder named after the file
            file /= node.get("path", "")
        return file.read_text(encoding="utf-8") if file.is_file() else None


def materialized(node: Node) -> str:
    """Return a node's materialization, such as `view`."""
    return str(node.get("config", {}).get("materialized") or "table")


def is_table(node: Node) -> bool:
    """Say whether a node stands for a table or view in the warehouse."""
    return node["resource_type"] in TABLES and materialized(node) != "ephemeral"
