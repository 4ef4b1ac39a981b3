"""The columns of a table that dbt has not created in this run, but added rows to: incremental models and snapshots.

Such a table was created by other SQL, perhaps, and has kept its columns and types. What dbt does with columns that
differ depends on `on_schema_change` (https://docs.getdbt.com/docs/build/incremental-models).
"""

from __future__ import annotations

from collections.abc import Mapping

from ...dbt.manifest_graph import Node, config_of
from .model import QueryLineage, TableColumns

# Strategies with which a build fails if the table has a column that its SQL lacks.
STRICT_STRATEGIES = {None, "append", "default", "delete+insert", "insert_overwrite", "merge", "microbatch"}


def kept_columns(node: Node, query: QueryLineage, before: TableColumns | None, dialect: str) -> TableColumns:
    """Return the columns of a table after its query has added rows; `before` are those that it had, if known."""
    change = "append_new_columns" if node["resource_type"] == "snapshot" else _on_schema_change(node)
    if before is None or not before.complete:
        complete = query.complete and _has_no_others(node, change, dialect)
        return TableColumns(dict.fromkeys(query.columns), complete=complete, in_order=False)
    if change in {"ignore", "fail"}:
        return before
    types = {name: column.type for name, column in query.columns.items()}
    if change == "append_new_columns":
        return TableColumns(_with_new(before.columns, types), query.complete, before.in_order and query.in_order)
    # Types change only if they differ, but not all engines change them.
    same = {name: data_type if before.columns.get(name) == data_type else None for name, data_type in types.items()}
    return TableColumns(same, query.complete and change == "sync_all_columns", in_order=False)


def _on_schema_change(node: Node) -> str:
    return str(config_of(node).get("on_schema_change") or "ignore")


def _has_no_others(node: Node, change: str, dialect: str) -> bool:
    """Return whether a table certainly has no columns besides those of its query."""
    if change != "ignore":
        return change in {"fail", "sync_all_columns"}
    strategy = config_of(node).get("incremental_strategy")
    by_name = dialect == "duckdb" and strategy == "merge"  # it leaves other columns of the table empty
    return strategy in STRICT_STRATEGIES and not by_name


def _with_new(before: Mapping[str, str | None], types: Mapping[str, str | None]) -> dict[str, str | None]:
    listed = {name.lower() for name in before}
    return {**before, **{name: data_type for name, data_type in types.items() if name.lower() not in listed}}
