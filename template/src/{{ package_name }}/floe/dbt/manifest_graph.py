"""The run's manifest as a graph: dbt's nodes, what each reads, and its compiled SQL.

The manifest that Dagster's assets were made from may be older, or of another target; it serves only until dbt has
written the run's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import orjson

from .deferral import DEFERRED, Deferral, Name, is_named, names_in
from .snapshot_log import SnapshotLog

Node = Mapping[str, Any]

ASSETS = {"model", "seed", "snapshot"}
TABLES = {*ASSETS, "source"}
TEST_TYPES = {"test", "unit_test"}
# What dbt executes as a node; an exposure or a metric is not executed.
EXECUTED = {*TABLES, *TEST_TYPES, "function"}
HOOK = "operation"  # dbt's type of an on-run-start or on-run-end hook


class Graph:
    """What a manifest says of each node, by dbt's unique id."""

    def __init__(self, manifest: Mapping[str, Any], target_path: Path, deferral: Deferral | None = None) -> None:
        """Take a manifest, the folder that dbt writes to, and what the command defers to, if it does."""
        self.metadata: Mapping[str, Any] = manifest["metadata"]
        self._dialect = str(self.metadata.get("adapter_type"))
        self._deferral = deferral
        self._names: dict[str, tuple[str, set[Name]]] = {}
        self._target_path = target_path
        self._exposures: Mapping[str, Node] = manifest.get("exposures", {})
        self._groups = {group["name"]: group for group in manifest.get("groups", {}).values()}
        self._nodes: dict[str, Node] = {
            unique_id: node
            for kind in ("nodes", "sources", "unit_tests")
            for unique_id, node in manifest.get(kind, {}).items()
        }

    @classmethod
    def read(cls, target_path: Path, fallback: Mapping[str, Any], deferral: Deferral | None = None) -> Graph:
        """Return the graph of the manifest in `target_path`, or of `fallback` if there is none yet."""
        own = target_path / "manifest.json"
        return cls(orjson.loads(own.read_bytes()) if own.exists() else fallback, target_path, deferral)

    def node(self, unique_id: str) -> Node:
        """Return a node; one that the manifest lacks is only as much as its id tells."""
        return self._nodes.get(unique_id) or bare_node(unique_id)

    def tables_upstream(self, node: Node) -> list[Node]:
        """Return the tables that a node reads, those behind ephemeral models included.

        A unit test reads none: its rows stand in the project. Where dbt defers, a table is left out as long as it is
        not known which of two is read: `undecided`.
        """
        return [read for _, reads in self._reads(node) for read in reads]

    def undecided(self, node: Node) -> list[Node]:
        """Return the tables in whose place a node may read another's, without its code saying which."""
        return [table for table, reads in self._reads(node) if not reads]

    def _reads(self, node: Node) -> list[tuple[Node, list[Node]]]:
        """Return the tables that a node refers to, each with those that it reads: itself unless dbt defers."""
        deferral = self._deferral
        return [
            (table, self._read(node, table, deferral.other(table) if deferral else None))
            for table in self._tables_above(node)
        ]

    def _read(self, node: Node, table: Node, other: Node | None) -> list[Node]:
        if other is None:
            return [table]
        if node.get(DEFERRED):  # it was built beside the other
            return [other]
        names = self._names_in(node)
        return [either for either in (table, other) if is_named(relation_text(either), names, self._dialect)]

    def _names_in(self, node: Node) -> set[Name]:
        code, is_python = self.compiled_sql(node), False
        if code is None and (file := self.compiled_file(node)) and file.suffix == ".py" and file.is_file():
            code, is_python = file.read_text(encoding="utf-8"), True
        if code is None:  # not yet compiled
            return set()
        # Read again each time: at a node's start dbt may still be writing the file.
        before, names = self._names.get(node["unique_id"], ("", set()))
        if before != code:
            names = names_in(code, self._dialect, is_python=is_python)
            self._names[node["unique_id"]] = code, names
        return names

    def _tables_above(self, node: Node) -> Iterator[Node]:
        if node["resource_type"] == "source":  # its freshness is looked at
            yield node
        for unique_id in () if node["resource_type"] == "unit_test" else depends_on(node):
            upstream = self.node(unique_id)
            if is_table(upstream):
                yield self.built(upstream)
            elif materialized(upstream) == "ephemeral":
                yield from self._tables_above(upstream)

    def built(self, node: Node) -> Node:
        """Return the node that builds the table of `node`: of a source that lies in a seed's table, the seed."""
        return node if is_external(node) else self._builders.get(relation(node), node)

    def blockers(self, node: Node, bad: Mapping[str, str]) -> list[str]:
        """Return those of `bad`, unique ids, that keep dbt from building `node`.

        These are upstream nodes, the tests of upstream nodes, and the unit tests of `node` itself.
        """
        upstream = set(depends_on(node))
        return [unique_id for unique_id in bad if unique_id in upstream or self._checks(unique_id, node, upstream)]

    def exposures(self, node: Node) -> list[Node]:
        """Return the exposures that read a node's table."""
        return self._exposures_by_node.get(node["unique_id"], [])

    def with_group(self, node: Node) -> Node:
        """Return a node whose `group` is the group itself, its owner included, instead of the group's name."""
        group = self._groups.get(str(node.get("group")))
        return {**node, "group": group}

    def compiled_sql(self, node: Node) -> str | None:
        """Return a node's compiled SQL, which dbt writes before it runs the node; a microbatch model's is one batch's.

        Of a snapshot dbt writes no file: its SQL is in the log once dbt has run it.
        """
        if node.get(DEFERRED):
            sql = node.get("compiled_code") if node.get("language") != "python" else None
            return str(sql) if sql else None
        if node["resource_type"] == "snapshot":
            return self._snapshot_sql(node)
        file = self.compiled_file(node)
        if file is None or file.suffix != ".sql":
            return None
        batches = _batches(file) if config_of(node).get("incremental_strategy") == "microbatch" else []
        return next((path.read_text(encoding="utf-8") for path in (file, *batches) if path.is_file()), None)

    def compiled_file(self, node: Node) -> Path | None:
        """Return where dbt writes a node's compiled code."""
        if not node.get("original_file_path") or not node.get("package_name"):
            return None
        file: Path = self._target_path / "compiled" / node["package_name"] / node["original_file_path"]
        if file.suffix in {".yml", ".yaml"}:  # of a generic test: a folder named after the file
            file /= node.get("path", "")
        return file

    def _checks(self, unique_id: str, node: Node, upstream: set[str]) -> bool:
        check = self.node(unique_id)
        if check["resource_type"] == "unit_test":
            return node["unique_id"] in depends_on(check)
        return check["resource_type"] == "test" and bool(upstream & {*depends_on(check)})

    def _snapshot_sql(self, node: Node) -> str | None:
        if sql := self._snapshot_log.query(node["unique_id"]):
            return sql
        if self._deferral or not str(node.get("original_file_path")).endswith((".yml", ".yaml")):
            return None
        # Written in YAML, a snapshot is all of one relation.
        relations = [self.node(unique_id).get("relation_name") for unique_id in depends_on(node)]
        return f"select * from {relations[0]}" if len(relations) == 1 and relations[0] else None  # noqa: S608

    @cached_property
    def _snapshot_log(self) -> SnapshotLog:
        return SnapshotLog(self._target_path / "dbt.log", self._dialect)

    @cached_property
    def _builders(self) -> dict[tuple[str, ...], Node]:
        return {
            relation(node): node
            for node in self._nodes.values()
            if node["resource_type"] != "source" and is_table(node) and node.get("schema")
        }

    @cached_property
    def _exposures_by_node(self) -> dict[str, list[Node]]:
        exposures: dict[str, list[Node]] = {}
        for exposure in self._exposures.values():
            for unique_id in depends_on(exposure):
                exposures.setdefault(unique_id, []).append(exposure)
        return exposures


def bare_node(unique_id: str) -> Node:
    """Return as much of a node as its id tells."""
    return {"unique_id": unique_id, "resource_type": unique_id.partition(".")[0], "name": unique_id}


def depends_on(node: Node) -> list[str]:
    """Return the unique ids of the nodes that `node` refers to."""
    nodes: list[str] = node.get("depends_on", {}).get("nodes", [])
    return nodes


def config_of(node: Node) -> Mapping[str, Any]:
    """Return a node's configuration."""
    config: Mapping[str, Any] = node.get("config") or {}
    return config


def materialized(node: Node) -> str:
    """Return a node's materialization, such as `view`."""
    return str(config_of(node).get("materialized") or "table")


def is_executed(resource_type: str | None, materialization: str | None) -> bool:
    """Say whether dbt executes such a node: only these have a run in lineage. Ephemeral models are text in others."""
    return resource_type in EXECUTED and materialization != "ephemeral"


def is_table(node: Node) -> bool:
    """Say whether a node stands for a table or view in the warehouse."""
    return node["resource_type"] in TABLES and materialized(node) != "ephemeral"


def is_external(node: Node) -> bool:
    """Say whether a node is a source that SQL reads from a file or a function: dbt-duckdb's `external_location`."""
    unquoted = re.sub(r'"[^"]*"|`[^`]*`', "", str(node.get("relation_name") or ""))
    return node["resource_type"] == "source" and (unquoted.startswith("'") or "(" in unquoted)


def relation_text(node: Node) -> str:
    """Return a table as compiled SQL has it: its `relation_name`, or else the parts of its name, not quoted."""
    return str(node.get("relation_name") or ".".join(_parts(node)))


def table_id(node: Node) -> tuple[str, str]:
    """Return what tells tables apart: dbt's unique id, and the relation, which differs where dbt defers."""
    return str(node["unique_id"]), relation_text(node)


def relation(node: Node) -> tuple[str, ...]:
    """Return the parts of a table's name, in lower case: two nodes with the same are one table."""
    return tuple(part.lower() for part in _parts(node))


def _parts(node: Node) -> list[str]:
    # A source may lie in a table that is not called as the source is.
    parts = (node.get("database"), node.get("schema"), node.get("identifier") or node.get("alias") or node["name"])
    return [str(part) for part in parts if part]


def _batches(file: Path) -> list[Path]:
    """Return the compiled files of a microbatch model, the latest batch first: one file for each batch."""
    return sorted((file.parent / file.stem).glob(f"{file.stem}_*{file.suffix}"), reverse=True)
