"""The columns of each table, as far as they are known without querying the warehouse.

In: the graph, compiled SQL, seed files, and `catalog.json` if `dbt docs generate` has written one. Out: the columns and
types of each table, and for a model its query, read by `columns/`.

Columns come from where they are defined: a seed's from its file and dbt's own type inference, a model's from its
compiled SQL and the upstream columns, a source's from the catalog or its documentation. A hook that asks the warehouse
would find the same columns, but it costs a query per node and a macro in the owner's folder. On DuckDB, only dbt could
ask before dbt has exited. This method leaves out what it cannot know: the type of an expression without a cast, the
columns behind `select *` from an undocumented source, and that an incremental table may be older than its SQL.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from typing import TypeVar

from ...dbt.catalog import Catalog
from ...dbt.manifest_graph import Graph, Node, materialized, relation, relation_text, table_id
from . import QueryLineage, TableColumns, fold, read_query
from .cache import BuiltTable, ColumnCache
from .hooks import unknown_effect
from .kept_tables import kept_columns
from .last_changes import LastChanges, is_own, owner
from .materializations import read_back, unknown_materialization
from .seeds import SeedFiles, SeedTypes
from .snapshots import with_snapshot_columns

SQLGLOT = version("sqlglot")
K = TypeVar("K")
V = TypeVar("V")
NOTHING = TableColumns({}, complete=False)


class Schemas:
    """The columns of one run's tables. Each table is read once; models with unchanged SQL come from the cache."""

    def __init__(
        self,
        graph: Graph,
        dialect: str,
        column_cache: ColumnCache,
        catalog: Catalog,
        seed_types: SeedTypes,
        namespace: str = "",
        *,
        recreates_seeds: bool = False,
    ) -> None:
        """Read tables of the database server or file `namespace`, whose columns earlier runs have cached.

        `recreates_seeds`: dbt always drops the table of a seed before it loads the file.
        """
        self._graph = graph
        self._namespace = namespace
        self._recreates_seeds = recreates_seeds
        self._dialect = dialect
        self._cache = column_cache
        self._catalog = catalog
        self._seed_files = SeedFiles(dialect, column_cache, seed_types)
        self._tables: dict[tuple[str, str], TableColumns] = {}
        self._queries: dict[tuple[str, str], QueryLineage | None] = {}
        self._digests: dict[tuple[str, str], str] = {}
        self._is_written: dict[tuple[str, str], bool] = {}
        self._is_new: dict[tuple[str, str], bool] = {}
        self._before: dict[tuple[str, str], TableColumns | None] = {}
        self._changes = LastChanges(graph, column_cache, self._table_name)

    def started(self, node: Node) -> None:
        """Record that dbt starts to build a node's table."""
        self._cache.start_table(self._table_name(node))

    def ended(self, node: Node, *, is_written: bool, is_new: bool | None = None) -> None:
        """Record that dbt has built a node's table, or that the build has failed and may have changed it.

        `is_new` is whether the build has created the table, rather than added rows; None if that is not known.
        """
        key, name = table_id(node), self._table_name(node)
        built = self._cache.table(name)
        self._is_written[key] = is_written
        self._is_new[key] = bool(is_new)
        # If it is not certain that the table was there before, its columns in an earlier run prove nothing.
        is_same = is_new is False and built and built.owner == owner(node)
        self._before[key] = built.table if built and is_same else None
        self._changes.built(node, built, is_written=is_written, is_new=is_new)
        self._cache.put_table(name, BuiltTable(since=self._changes.last(node)))
        self._tables.pop(key, None)
        self._queries.pop(key, None)
        self._digests.pop(key, None)

    def table(self, node: Node) -> TableColumns:
        """Return the known columns of a node's table."""
        key = table_id(node)
        if key not in self._tables:
            self._tables[key] = NOTHING  # ends the recursion for a node that depends on itself
            with _forget_if_raised(self._tables, key):
                self._tables[key] = self._table(node)
        return self._tables[key]

    def query(self, node: Node) -> QueryLineage | None:
        """Return the lineage of a model or snapshot that this run has built; None for a seed, and one in Python.

        Of a table that something else changes, only the reason is known. A table that is older than its query may lack
        columns of the query.
        """
        query = self._query(node)
        if query is None or not self._is_kept(node) or not (table := self.table(node)).complete:
            return query
        names = {name.lower() for name in table.columns}
        return replace(query, columns={name: c for name, c in query.columns.items() if name.lower() in names})

    def _query(self, node: Node) -> QueryLineage | None:
        key = table_id(node)
        if key not in self._queries:
            self._queries[key] = None
            with _forget_if_raised(self._queries, key):
                self._queries[key] = self._read(node)
        return self._queries[key]

    def _is_kept(self, node: Node) -> bool:
        """Return whether a node adds rows to a table that it has not created in this run."""
        return materialized(node) in {"incremental", "snapshot"} and not self._is_new.get(table_id(node))

    def _table(self, node: Node) -> TableColumns:
        """Return the columns of a table: as built by this run, as built last, or, after a failed build, none."""
        if not is_own(node) or self._is_written.get(table_id(node)):
            table = NOTHING if self._unknown_effect(node) else self._typed(node, self._columns(node))
            if is_own(node):
                definition, since = self._changes.definition(node), self._changes.last(node)
                built = BuiltTable(owner(node), node.get("checksum"), definition, since, table)
                self._cache.put_table(self._table_name(node), built)
            return table
        if table_id(node) in self._is_written or self._unknown_effect(node):
            return NOTHING
        last = self._cache.table(self._table_name(node))
        is_same = last and last.owner[:2] == table_id(node) and last.checksum == node.get("checksum")
        # A view may get other columns without being built, if what it reads changes.
        last_built = last.table if last and is_same and self._changes.last(node) <= last.since else None
        if last_built and last_built.complete:
            return last_built
        table = self._typed(node, self._columns(node))
        return last_built if last_built and not table.complete else table

    def _cataloged(self, node: Node) -> dict[str, str | None]:
        """Return a table's columns as in the catalog, unless the table may have changed since."""
        return self._catalog.columns(node, since=self._changes.last(node))

    def _unknown_effect(self, node: Node) -> str | None:
        if node["resource_type"] == "source":
            return None
        return unknown_effect(node, self._dialect) or unknown_materialization(
            node, self._graph.redefined_materializations
        )

    def _columns(self, node: Node) -> TableColumns:
        kind, query = node["resource_type"], None
        if kind == "seed":
            return self._seed(node)
        if kind in {"model", "snapshot"}:
            query = self._query(node)
            if query and not query.problem and self._is_kept(node):
                return self._cataloged_or(
                    node, kept_columns(node, query, self._before.get(table_id(node)), self._dialect)
                )
            if query and query.complete:
                columns = {name: column.type for name, column in query.columns.items()}
                return self._stored(node, columns, in_order=query.in_order)
            if _has_contract(node) and self._is_written.get(table_id(node), not is_own(node)):
                return self._stored(node, self._documented(node), in_order=False)
            if query is None and (cataloged := self._cataloged(node)):
                return TableColumns(cataloged)
        elif cataloged := self._cataloged(node):
            return TableColumns(cataloged)
        if query:
            return TableColumns({name: column.type for name, column in query.columns.items()}, complete=False)
        # Documentation may be older than the SQL, so it counts only where there is none.
        documented = self._documented(node) if kind == "source" or node.get("language") == "python" else {}
        return TableColumns(documented, complete=False)

    def _stored(self, node: Node, columns: dict[str, str | None], *, in_order: bool) -> TableColumns:
        """Return the columns of a model's query as dbt stores them.

        With a contract, a table has the order and the types of its YAML. A table that earlier runs have written may
        have been created by other SQL: only a catalog has its order.
        """
        kind = materialized(node)
        if kind in {"incremental", "snapshot"}:
            return self._cataloged_or(node, TableColumns(columns, in_order=False))
        if kind == "table" and _has_contract(node):
            declared = self._documented(node)
            if declared.keys() != columns.keys():
                return TableColumns(columns, in_order=False)
            return TableColumns({name: data_type or columns[name] for name, data_type in declared.items()})
        return read_back(node, TableColumns(columns, in_order=in_order))

    def _cataloged_or(self, node: Node, table: TableColumns) -> TableColumns:
        """Return a table as in the catalog, which has its order and its types, if it has the same columns there."""
        cataloged = self._cataloged(node)
        return TableColumns(cataloged) if cataloged and cataloged.keys() == table.columns.keys() else table

    def _typed(self, node: Node, table: TableColumns) -> TableColumns:
        # Of tables whose types differ from those of their SQL, documentation is not a proof.
        is_other = self._is_kept(node) or materialized(node) == "external"
        known_types = {
            name.lower(): data_type
            for source in ({} if is_other else self._documented(node), self._cataloged(node))
            for name, data_type in source.items()
            if data_type
        }
        types = {name: data_type or known_types.get(name.lower()) for name, data_type in table.columns.items()}
        return replace(table, columns=types)

    def _documented(self, node: Node) -> dict[str, str | None]:
        return {
            fold(column["name"], self._dialect, quoted=bool(column.get("quote"))): column.get("data_type")
            for column in node.get("columns", {}).values()
        }

    def _seed(self, node: Node) -> TableColumns:
        """Return the columns of a seed's table, which are those of its file only if this run has created the table.

        Otherwise dbt empties and fills the table that is there, and its names and types stay. DuckDB fills it by
        position, so the file only shows how a column is spelled that a model selects.
        """
        key, file = table_id(node), self._seed_files.columns(node, self._cache_key(node))
        is_loaded = is_own(node) and key in self._is_written
        if is_loaded and (self._is_new[key] or self._recreates_seeds):
            return file
        if is_loaded and (before := self._before[key]) and before.complete:
            return before
        cataloged = self._cataloged(node)
        if cataloged and cataloged.keys() == file.columns.keys():
            return TableColumns(cataloged)
        return replace(NOTHING, spellings=tuple(file.columns)) if is_loaded else NOTHING

    def _read(self, node: Node) -> QueryLineage | None:
        if problem := self._unknown_effect(node):
            return QueryLineage(problem=problem)
        if node["resource_type"] == "seed":
            return None
        if is_own(node) and not self._is_written.get(table_id(node)):
            return None  # the table has been made of other SQL
        sql = self._graph.compiled_sql(node) if node.get("language") != "python" else None
        if sql is None:
            return None
        upstream = {relation_text(table): table for table in self._graph.tables_upstream(node)}
        this, before = relation_text(node), self._before_build(node)
        key = self._digest(sql, upstream, before)
        query = self._cache.query(self._cache_key(node), key)
        if query is None:
            tables = {this: before, **{name: self.table(table) for name, table in upstream.items()}}
            # That the rows of a table depend on its earlier rows is no lineage between two datasets.
            query = read_query(sql, self._dialect, tables).without(this)
            self._cache.put_query(self._cache_key(node), key, query)
        return with_snapshot_columns(query, node, self._dialect) if node["resource_type"] == "snapshot" else query

    def _cache_key(self, node: Node) -> str:
        """Return the cache key of a node's query or seed file, which differs by database and by target."""
        return " ".join((self._namespace, *table_id(node)))

    def _table_name(self, node: Node) -> str:
        """Return the name under which a table is cached, which is the same for all nodes that build it."""
        return " ".join((self._namespace, ".".join(relation(node))))

    def _before_build(self, node: Node) -> TableColumns:
        """Return the columns that a table had before this run added rows, for a query that reads its own table."""
        if not self._is_kept(node):
            return NOTHING
        before = self._before.get(table_id(node))
        if before and before.complete:
            return before
        cataloged = self._cataloged(node)
        return TableColumns(cataloged, complete=bool(cataloged))

    def _digest(self, sql: str, upstream: Mapping[str, Node], before: TableColumns) -> str:
        parts = [SQLGLOT, self._dialect, sql, before.digest()]
        parts += [f"{name}={self._digest_of(node)}" for name, node in sorted(upstream.items())]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()

    def _digest_of(self, node: Node) -> str:
        key = table_id(node)
        if key not in self._digests:
            self._digests[key] = self.table(node).digest()
        return self._digests[key]


def _has_contract(node: Node) -> bool:
    return bool(node.get("config", {}).get("contract", {}).get("enforced"))


@contextmanager
def _forget_if_raised(known: dict[K, V], key: K) -> Iterator[None]:
    """Remove the provisional value of `key` if its final value cannot be computed."""
    try:
        yield
    except BaseException:
        del known[key]
        raise
