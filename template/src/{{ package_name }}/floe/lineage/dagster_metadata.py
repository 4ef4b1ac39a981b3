"""The columns and rows of a table as Dagster's metadata, so that its catalog shows what the lineage events contain.

In: a table, its query and its asset specs. Out: the entries of its materialization. dagster-dbt's
`fetch_column_metadata` and `fetch_row_counts` would make the same entries, with a query per table.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dagster as dg

from ..assets.translator import COLUMN_SCHEMA
from .columns import QueryLineage, TableColumns
from .columns.model import DIRECT

COLUMN_LINEAGE = "dagster/column_lineage"
ROW_COUNT = "dagster/row_count"
UNKNOWN_TYPE = "?"  # dagster-dbt's


def table_metadata(
    spec: dg.AssetSpec,
    table: TableColumns,
    query: QueryLineage | None,
    upstream: Mapping[str, dg.AssetKey],
    row_count: int | None,
) -> dict[str, Any]:
    """Return the entries of a table's materialization; what is not certain is left out.

    Args:
        spec: The table's asset spec, whose schema has the descriptions and tags of documented columns.
        table: The columns of the table.
        query: The query that it was built from, if it is known.
        upstream: Asset keys of the tables that the query reads, by the tables' names in it.
        row_count: The number of rows in the table, if the build has counted all.
    """
    metadata: dict[str, Any] = {}
    if table.complete and table.columns:
        metadata[COLUMN_SCHEMA] = _schema(spec, table)
    if query and (deps := _deps(query, upstream)):
        metadata[COLUMN_LINEAGE] = dg.TableColumnLineage(deps_by_column=deps)
    if row_count is not None:
        metadata[ROW_COUNT] = row_count
    return metadata


def _schema(spec: dg.AssetSpec, table: TableColumns) -> dg.TableSchema:
    entry = spec.metadata.get(COLUMN_SCHEMA)
    schema = getattr(entry, "schema", entry)
    known = schema.columns if isinstance(schema, dg.TableSchema) else ()
    documented = {column.name.lower(): column for column in known}
    columns = []
    for name, data_type in table.columns.items():
        column = documented.get(name.lower()) or dg.TableColumn(name)
        columns.append(
            dg.TableColumn(
                name=name,
                type=data_type or UNKNOWN_TYPE,
                description=column.description,
                constraints=column.constraints,
                tags=column.tags,
            )
        )
    return dg.TableSchema(columns=columns)


def _deps(query: QueryLineage, upstream: Mapping[str, dg.AssetKey]) -> dict[str, list[dg.TableColumnDep]]:
    """Return the columns of which each column is made, without those that only decide on its value."""
    deps = {}
    for name, column in query.columns.items():
        direct = sorted({(origin.table, origin.column) for origin in column.origins if origin.type == DIRECT})
        if column.known and direct and all(table in upstream for table, _ in direct):
            deps[name] = [dg.TableColumnDep(upstream[table], column_name) for table, column_name in direct]
    return deps
