"""The columns that dbt adds to a snapshot (https://docs.getdbt.com/docs/build/snapshots#snapshot-meta-fields)."""

from __future__ import annotations

from dataclasses import replace

from ...dbt.manifest_graph import Node
from . import ColumnLineage, QueryLineage, fold
from .model import DIRECT, UNKNOWN, combined


def with_snapshot_columns(query: QueryLineage, node: Node, dialect: str) -> QueryLineage:
    """Return a snapshot's query with dbt's columns added after its own."""
    if query.problem:
        return query
    config = node.get("config", {})
    named = config.get("snapshot_meta_column_names") or {}
    keys = config.get("unique_key") or []
    key = _together(query, [keys] if isinstance(keys, str) else keys, dialect)
    # With the strategy `check`, the time is that of the run; with `timestamp`, that of a column.
    time = _together(query, [config["updated_at"]] if config.get("updated_at") else [], dialect)
    added = {
        "dbt_scd_id": combined((key, time)).through(DIRECT, "TRANSFORMATION"),
        "dbt_updated_at": time,
        "dbt_valid_from": time,
        "dbt_valid_to": time.through(DIRECT, "TRANSFORMATION"),
    }
    if config.get("hard_deletes") == "new_record":
        added["dbt_is_deleted"] = ColumnLineage()
    columns = {fold(named.get(name) or name, dialect): column for name, column in added.items()}
    return replace(query, columns={**query.columns, **columns})


def _together(query: QueryLineage, names: list[str], dialect: str) -> ColumnLineage:
    by_name = {name.lower(): column for name, column in query.columns.items()}
    columns = [by_name.get(fold(name, dialect).lower(), UNKNOWN) for name in names]
    return columns[0] if len(columns) == 1 else combined(columns)
