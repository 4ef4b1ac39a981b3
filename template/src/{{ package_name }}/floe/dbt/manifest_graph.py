"""The run's manifest as a graph: dbt's nodes, what each one reads, and its compiled SQL.

The manifest behind Dagster's assets may be older or made for another target. It is used only until dbt has written
the manifest of the run.
"""

from __future__ import annotations

import re
from collections import defaultdict
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
# The types of nodes that dbt executes; it does not execute exposures or metrics.
EXECUTED = {*TABLES, *TEST_TYPES, "function"}
# Materializations that create no table or view: dbt-duckdb's table function runs its SQL wherever it is called.
NO_TABLE = {"ephemeral", "table_function"}
HOOK = "operation"  # dbt's resource type of on-run-start and on-run-end hooks


class Graph:
    """The nodes of a manifest, by dbt's unique id."""

    def __init__(self, manifest: Mapping[str, Any], target_path: Path, deferral: Deferral | None = None) -> None:
        """Build the graph of a manifest, with the folder that dbt writes to and the command's deferral, if any."""
        self.metadata: Mapping[str, Any] = manifest["metadata"]
        self._dialect = str(self.metadata.get("adapter_type"))
        self._deferral = deferral
        self._names: dict[str, tuple[str, set[Name]]] = {}
        self._target_path = target_path
        self._exposures: Mapping[str, Node] = manifest.get("exposures", {})
        self._macros: Mapping[str, Any] = manifest.get("macros", {})
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
        """Return a node; if the manifest lacks it, return one with only what its id reveals."""
        return self._nodes.get(unique_id) or bare_node(unique_id)

    @cached_property
    def redefined_materializations(self) -> set[str]:
        """Return the names of the materializations that a macro of the project defines.

        Those of packages count only if the project has such a macro, which calls them.
        """
        prefix = f"macro.{self.metadata.get('project_name')}.materialization_"
        names = (unique_id.removeprefix(prefix) for unique_id in self._macros if unique_id.startswith(prefix))
        return {name.rpartition("_")[0] for name in names}  # without the adapter

    def below(self, unique_id: str) -> set[str]:
        """Return the unique ids of all nodes that depend on a node."""
        below: set[str] = set()
        waiting = list(self._children[unique_id])
        while waiting:
            child = waiting.pop()
            if child not in below:
                below.add(child)
                waiting += self._children[child]
        return below

    @cached_property
    def _children(self) -> Mapping[str, set[str]]:
        children: dict[str, set[str]] = defaultdict(set)
        for node in self._nodes.values():
            for parent in node.get("depends_on", {}).get("nodes", ()):
                children[parent].add(str(node["unique_id"]))
        return children

    def tables_upstream(self, node: Node) -> list[Node]:
        """Return the tables that a node reads, including those behind ephemeral models and table functions.

        A unit test reads none, because its rows are in the project. If dbt defers, a table is left out until it is
        known which of the two is read; `undecided` returns it.
        """
        return [read for _, reads in self._reads(node) for read in reads]

    def undecided(self, node: Node) -> list[Node]:
        """Return the tables for which the code does not tell whether the node reads them or another run's."""
        return [table for table, reads in self._reads(node) if not reads]

    def _reads(self, node: Node) -> list[tuple[Node, list[Node]]]:
        """Return the tables that a node refers to, each with the tables that are read: itself, unless dbt defers."""
        deferral = self._deferral
        return [
            (table, self._read(node, table, deferral.other(table) if deferral else None))
            for table in self._tables_above(node)
        ]

    def _read(self, node: Node, table: Node, other: Node | None) -> list[Node]:
        if other is None:
            return [table]
        if node.get(DEFERRED):  # the other run built this node, from its own tables
            return [other]
        names = self._names_in(node)
        return [either for either in (table, other) if is_named(relation_text(either), names, self._dialect)]

    def _names_in(self, node: Node) -> set[Name]:
        code, is_python = self.compiled_sql(node), False
        if code is None and (file := self.compiled_file(node)) and file.suffix == ".py" and file.is_file():
            code, is_python = file.read_text(encoding="utf-8"), True
        if code is None:  # not compiled yet
            return set()
        # Read the code every time: dbt may still be writing the file when the node starts.
        before, names = self._names.get(node["unique_id"], ("", set()))
        if before != code:
            names = names_in(code, self._dialect, is_python=is_python)
            self._names[node["unique_id"]] = code, names
        return names

    def _tables_above(self, node: Node) -> Iterator[Node]:
        if node["resource_type"] == "source":  # a freshness check reads the source itself
            yield node
        for unique_id in () if node["resource_type"] == "unit_test" else depends_on(node):
            upstream = self.node(unique_id)
            if is_table(upstream):
                yield self.built(upstream)
            elif materialized(upstream) in NO_TABLE:
                yield from self._tables_above(upstream)

    def built(self, node: Node) -> Node:
        """Return the node that builds the table of `node`, such as the seed behind a source that is a seed's table."""
        return node if is_external(node) else self._builders.get(relation(node), node)

    def blockers(self, node: Node, bad: Mapping[str, str]) -> list[str]:
        """Return the unique ids in `bad` that keep dbt from building `node`.

        These are upstream nodes, tests of upstream nodes, and unit tests of `node` itself. dbt skips a unit test for
        the same reasons as its model, which it would run next.
        """
        if node["resource_type"] == "unit_test" and (models := depends_on(node)):
            node = self.node(models[0])
        upstream = set(depends_on(node))
        return [unique_id for unique_id in bad if unique_id in upstream or self._checks(unique_id, node, upstream)]

    def exposures(self, node: Node) -> list[Node]:
        """Return the exposures that read a node's table."""
        return self._exposures_by_node.get(node["unique_id"], [])

    def with_group(self, node: Node) -> Node:
        """Return a node whose `group` is the group itself, with its owner, instead of the group's name."""
        group = self._groups.get(str(node.get("group")))
        return {**node, "group": group}

    def is_new(self, node: Node, invocation_id: str) -> bool | None:
        """Return whether a command has created a node's table rather than changed its rows; None if that is unknown."""
        return self._snapshot_log.is_new(str(node["unique_id"]), invocation_id, relation_text(node))

    def compiled_sql(self, node: Node) -> str | None:
        """Return a node's compiled SQL, which dbt writes before it runs the node; for a microbatch model, one batch's.

        dbt writes no file for a snapshot; its SQL is in the log once dbt has run it.
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
        """Return the path where dbt writes a node's compiled code."""
        if not node.get("original_file_path") or not node.get("package_name"):
            return None
        file: Path = self._target_path / "compiled" / node["package_name"] / node["original_file_path"]
        if file.suffix in {".yml", ".yaml"}:  # a generic test: dbt creates a folder with the file's name
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
        # A snapshot that is defined in YAML selects everything from one relation.
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
    """Return a node with only what its id reveals."""
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
    """Return whether dbt executes such a node; only these have runs in lineage. Ephemeral models are part of others."""
    return resource_type in EXECUTED and materialization != "ephemeral"


def is_table(node: Node) -> bool:
    """Return whether a node represents a table or view in the warehouse."""
    return node["resource_type"] in TABLES and materialized(node) not in NO_TABLE


def is_external(node: Node) -> bool:
    """Return whether a node is a source that SQL reads from a file or function: dbt-duckdb's `external_location`."""
    unquoted = re.sub(r'"[^"]*"|`[^`]*`', "", str(node.get("relation_name") or ""))
    return node["resource_type"] == "source" and (unquoted.startswith("'") or "(" in unquoted)


def relation_text(node: Node) -> str:
    """Return a table as compiled SQL writes it: its `relation_name`, or else the parts of its name without quotes."""
    return str(node.get("relation_name") or ".".join(_parts(node)))


def table_id(node: Node) -> tuple[str, str]:
    """Return the identity of a table: dbt's unique id, and the relation, which differs if dbt defers."""
    return str(node["unique_id"]), relation_text(node)


def relation(node: Node) -> tuple[str, ...]:
    """Return the parts of a table's name in lower case; two nodes with equal parts are one table."""
    return tuple(part.lower() for part in _parts(node))


def _parts(node: Node) -> list[str]:
    # A source's table may have another name than the source.
    parts = (node.get("database"), node.get("schema"), node.get("identifier") or node.get("alias") or node["name"])
    return [str(part) for part in parts if part]


def _batches(file: Path) -> list[Path]:
    """Return the compiled files of a microbatch model, one per batch, the latest batch first."""
    return sorted((file.parent / file.stem).glob(f"{file.stem}_*{file.suffix}"), reverse=True)
