"""The OpenLineage datasets that a dbt node reads and writes.

Names come from `dataset_names.py`. The facets of each table come from `table_facets.py` and are made once per run. This
module adds what depends on the end of a node's run: statistics, state, version and column lineage of its output, and
the results of a test for its inputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from openlineage.client.event_v2 import InputDataset, OutputDataset
from openlineage.client.facet_v2 import (
    DatasetFacet,
    InputDatasetFacet,
    OutputDatasetFacet,
    column_lineage_dataset,
    dataset_version_dataset,
    datasource_dataset,
    input_statistics_input_dataset,
    lifecycle_state_change_dataset,
    output_statistics_output_dataset,
    symlinks_dataset,
)

from ..assets.meta import Owners
from ..dbt.manifest_graph import ASSETS, Graph, Node, config_of, is_table, materialized, relation_text, table_id
from ..dbt.node_events import NodeFinished, Outcome
from ..faults import detail, lost_details
from ..warehouse import Connection, Warehouse
from . import checks
from .columns import Origin, QueryLineage
from .columns.schemas import NOTHING, Schemas
from .dataset_names import DatasetNames
from .locations import DatasetName
from .table_facets import TYPES, table_facets

# Statuses with which dbt reports that it has not run a node.
UNTOUCHED = {"no-op", "reused"}
State = lifecycle_state_change_dataset.LifecycleStateChange


class DatasetBuilder:
    """A builder of the datasets of one run, by dbt node."""

    def __init__(
        self,
        graph: Graph,
        warehouse: Warehouse,
        connection: Connection,
        schemas: Schemas,
        owners: Owners,
        folder: Path,
    ) -> None:
        """Describe tables by the given sources, for a dbt that runs in `folder`."""
        self._graph = graph
        self._warehouse = warehouse
        self._schemas = schemas
        self._owners = owners
        self._names = DatasetNames(warehouse, connection, folder)
        self._facets: dict[tuple[str, str], dict[str, DatasetFacet]] = {}
        self._versions: dict[tuple[str, str], str] = {}
        self.namespace = self._names.namespace
        self.dialect = warehouse.dialect

    def inputs(self, node: Node, event: NodeFinished | None = None) -> list[InputDataset]:
        """Return the tables that a node reads, without repetitions; with `event`, its end, include all their facets."""
        above = self._graph.tables_upstream(node)
        tables = {name: table for table in above if (name := self.name(table))}
        if event is None:
            return [InputDataset(*name) for name in tables]
        return [
            InputDataset(
                *name,
                facets={**(detail(self._described, table) or {}), **(detail(self._version, table) or {})},
                inputFacets={
                    **(detail(checks.input_facets, node, event, table) or {}),
                    **(detail(_bytes_read, event, alone=len(tables) == 1) or {}),
                },
            )
            for name, table in tables.items()
        ]

    def left_out(self, node: Node, *, is_written: bool) -> list[str]:
        """Return a message for each table that a node reads but `inputs` leaves out, and for unknown columns.

        `is_written` is whether the node has written its table.
        """
        messages = [
            f"input: the SQL does not show whether it reads {table['unique_id']} of this run or the one deferred to"
            for table in self._graph.undecided(node)
        ]
        messages += [
            f"input: the location of {table['unique_id']} has no certain name in OpenLineage"
            for table in self._graph.tables_upstream(node)
            if self.name(table) is None
        ]
        if is_written and self._has_older_columns(node):
            messages.append(
                "columns: not all columns of the table are known, because an earlier run may have created it; "
                "run `dbt docs generate`, or build it once with `--full-refresh`"
            )
        return messages

    def started(self, node: Node) -> None:
        """Record the start of a node, which may change its table."""
        if node["resource_type"] in ASSETS and is_table(node):
            self._schemas.started(node)

    def ended(self, node: Node, event: NodeFinished, *, full_refresh: bool) -> None:
        """Record the end of a node, before its datasets are described; a skipped or reused table is as it was."""
        if node["resource_type"] in ASSETS and event.outcome is not Outcome.SKIPPED and event.status not in UNTOUCHED:
            is_new = _is_refreshed(node, full_refresh=full_refresh) or self._graph.is_new(node, event.invocation_id)
            is_written = event.outcome in {Outcome.SUCCESS, Outcome.WARN}
            self._schemas.ended(node, is_written=is_written, is_new=is_new)
            self._facets.pop(table_id(node), None)

    def row_count(self, node: Node, event: NodeFinished, *, full_refresh: bool) -> int | None:
        """Return the number of rows in a table, if the node has written all of them and the engine has counted."""
        is_whole = _state(node, full_refresh=full_refresh) is State.OVERWRITE
        return _rows(node, event, self._warehouse) if is_whole else None

    def outputs(self, node: Node, event: NodeFinished, run_id: str, *, full_refresh: bool) -> list[OutputDataset]:
        """Return the table that a node has written: none for a test or a source, which write nothing."""
        if not is_table(node) or node["resource_type"] == "source":
            return []
        if materialized(node) not in TYPES:
            # Each run that writes a table creates a version of it, which later runs of the command read.
            self._versions[table_id(node)] = run_id
        facets = {**(detail(self._described, node) or {}), **(detail(self._version, node) or {})}
        if state := detail(_state, node, full_refresh=full_refresh):
            facets["lifecycleStateChange"] = lifecycle_state_change_dataset.LifecycleStateChangeDatasetFacet(state)
        if lineage := detail(self._column_lineage, node):
            facets["columnLineage"] = lineage
        rows = detail(_rows, node, event, self._warehouse)
        written: dict[str, OutputDatasetFacet] = {}
        if rows is not None:
            written["outputStatistics"] = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(
                rowCount=rows
            )
        return [OutputDataset(*self._names.name_output(node), facets=facets, outputFacets=written)]

    def query(self, node: Node) -> QueryLineage | None:
        """Return a model's column lineage, limited to what is certain and to inputs that have names."""
        query = self._schemas.query(node)
        if query is None:
            return None
        names = self._names_by_key(node)
        unnamed = {
            name: replace(column, known=False)
            for name, column in query.columns.items()
            if any(origin.table not in names for origin in column.origins)
        }
        rows_known = query.rows_known and all(origin.table in names for origin in query.rows)
        return replace(query, columns={**query.columns, **unnamed}, rows_known=rows_known)

    def _has_older_columns(self, node: Node) -> bool:
        """Return whether a table may have other columns than its seed or its known query."""
        if node["resource_type"] not in ASSETS or not is_table(node) or self._schemas.table(node).complete:
            return False
        query = self._schemas.query(node)
        return query.complete and not query.problem if query else node["resource_type"] == "seed"

    def name(self, node: Node) -> DatasetName | None:
        """Return the OpenLineage name of a node's table or file, or None if it has no certain name."""
        return self._names.name(node)

    def _described(self, node: Node) -> dict[str, DatasetFacet]:
        key = table_id(node)
        if key not in self._facets:
            before, name = lost_details(), self._names.name_output(node)
            facets: dict[str, DatasetFacet] = {
                "dataSource": datasource_dataset.DatasourceDatasetFacet(name=name.namespace, uri=_uri(name))
            }
            if names := detail(self._names.alternative_names, node):
                facets["symlinks"] = symlinks_dataset.SymlinksDatasetFacet(
                    identifiers=[symlinks_dataset.Identifier(*alternative, type="TABLE") for alternative in names]
                )
            table, exposures = detail(self._schemas.table, node) or NOTHING, detail(self._graph.exposures, node) or []
            is_file = self._names.is_file(node)
            described_facets = detail(
                table_facets, node, table, exposures, warehouse=self._warehouse, owners=self._owners, is_file=is_file
            )
            facets |= described_facets or {}
            if lost_details() > before:  # not cached, so that the loss counts for each node that reads the table
                return facets
            self._facets[key] = facets
        return self._facets[key]

    def _version(self, node: Node) -> dict[str, DatasetFacet]:
        version = self._versions.get(table_id(node))
        if version is None:
            return {}
        return {"version": dataset_version_dataset.DatasetVersionDatasetFacet(datasetVersion=version)}

    def _column_lineage(self, node: Node) -> DatasetFacet | None:
        query = self.query(node)
        if query is None:
            return None
        names = self._names_by_key(node)
        fields = {
            name: column_lineage_dataset.Fields(inputFields=_input_fields(column.origins, names))
            for name, column in query.columns.items()
            if column.known and column.origins
        }
        rows = _input_fields(query.rows, names)
        return column_lineage_dataset.ColumnLineageDatasetFacet(fields=fields, dataset=rows) if fields or rows else None

    def _names_by_key(self, node: Node) -> dict[str, DatasetName]:
        """Return the datasets that a node reads, by the keys that its query uses for them."""
        tables = self._graph.tables_upstream(node)
        return {relation_text(table): name for table in tables if (name := self.name(table))}


def _input_fields(
    origins: frozenset[Origin], names: Mapping[str, DatasetName]
) -> list[column_lineage_dataset.InputField]:
    steps: dict[tuple[DatasetName, str], list[column_lineage_dataset.Transformation]] = {}
    for origin in sorted(origins):
        if name := names.get(origin.table):
            steps.setdefault((name, origin.column), []).append(
                column_lineage_dataset.Transformation(type=origin.type, subtype=origin.subtype or None)
            )
    return [
        column_lineage_dataset.InputField(*name, column, transformations)
        for (name, column), transformations in steps.items()
    ]


def _uri(name: DatasetName) -> str:
    # The namespace of local files is not a URI.
    return name.namespace if name.namespace != "file" else "file:///"


def _state(node: Node, *, full_refresh: bool) -> State | None:
    """Return the state change that a build caused, or None if rows were only added or changed."""
    kind = materialized(node)
    if kind in TYPES:
        return State.CREATE
    if kind in {"table", "seed"} or (kind == "incremental" and full_refresh):
        return State.OVERWRITE
    return None


def _is_refreshed(node: Node, *, full_refresh: bool) -> bool:
    """Return whether dbt has replaced a table to which it otherwise adds rows; a model's own setting applies first."""
    own = config_of(node).get("full_refresh")
    return materialized(node) in {"incremental", "seed"} and bool(full_refresh if own is None else own)


def _rows(node: Node, event: NodeFinished, warehouse: Warehouse) -> int | None:
    """Return the number of rows that a node wrote; engines report -1, or nothing, if they did not count."""
    count = event.response.get("rows_affected")
    if materialized(node) in TYPES or not isinstance(count, int | float) or count < 0:
        return None
    return None if count == warehouse.rows_of_create else int(count)


def _bytes_read(event: NodeFinished, *, alone: bool) -> dict[str, InputDatasetFacet]:
    """Return the bytes that BigQuery billed for reading, if there is one input; for several the split is unknown."""
    size = event.response.get("bytes_processed")
    if not alone or not isinstance(size, int | float):
        return {}
    return {"inputStatistics": input_statistics_input_dataset.InputStatisticsInputDatasetFacet(size=int(size))}
