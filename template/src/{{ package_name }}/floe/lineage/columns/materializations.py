"""What a materialization makes of the columns of a query, apart from tables and views.

In: a node, and the columns of its query. Out: the columns of the relation that other models read.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import PurePosixPath

from ...dbt.manifest_graph import Node, config_of, materialized
from .model import TableColumns

# The materializations of dbt and its adapters whose relation has the columns of the query.
KNOWN = {
    "dynamic_table",
    "external",
    "incremental",
    "materialized_view",
    "seed",
    "snapshot",
    "streaming_table",
    "table",
    "view",
}
# Types that a Parquet file keeps exactly.
PARQUET_TYPES = {
    "BIGINT",
    "BOOLEAN",
    "DATE",
    "DOUBLE",
    "FLOAT",
    "INT",
    "INTEGER",
    "REAL",
    "TEXT",
    "TIMESTAMP",
    "VARCHAR",
}
# Options of the writer that change neither names nor values; `partition_by` moves columns to the end.
WRITE_OPTIONS = {"codec", "compression", "format", "overwrite", "overwrite_or_ignore", "partition_by", "row_group_size"}
READ_OPTIONS = ("csv_read_options", "json_read_options", "parquet_read_options", "plugin")


def unknown_materialization(node: Node, redefined: Collection[str]) -> str | None:
    """Return why a materialization may make anything of a query: it is one of the project or of a package.

    `redefined` are dbt's materializations that the project has redefined.
    """
    kind = materialized(node)
    if kind in redefined and kind in KNOWN:
        return f"the project redefines the materialization {kind}, so the columns of the table are not known"
    if kind == "external" and not _is_read_as_written(node):
        return "the format or the options of the file decide how it is read, so the columns are not known"
    if kind in KNOWN or node["resource_type"] == "seed":
        return None
    return f"the materialization {kind} is not one of dbt's, so the columns of the table are not known"


def read_back(node: Node, table: TableColumns) -> TableColumns:
    """Return the columns of dbt-duckdb's `external`, a view of the file that dbt has written.

    Only Parquet keeps types; others are guessed again from the text, and so are those of partitions from their folders.
    """
    if materialized(node) != "external":
        return table
    is_partitioned = bool((config_of(node).get("options") or {}).get("partition_by"))
    is_exact = _format(node) == "parquet" and not is_partitioned
    types = {name: t if is_exact and t and t.upper() in PARQUET_TYPES else None for name, t in table.columns.items()}
    return replace(table, columns=types, in_order=table.in_order and not is_partitioned)


def _is_read_as_written(node: Node) -> bool:
    config = config_of(node)
    if any(config.get(option) for option in READ_OPTIONS) or not (config.get("options") or {}).keys() <= WRITE_OPTIONS:
        return False
    return _format(node) in {"csv", "json", "parquet"}


def _format(node: Node) -> str:
    config = config_of(node)
    suffix = PurePosixPath(str(config.get("location") or "")).suffix.lstrip(".")
    return str(config.get("format") or (config.get("options") or {}).get("format") or suffix or "parquet").lower()
