"""A dbt node -> the OpenLineage datasets that it reads and writes.

Names come from the warehouse (`warehouse.py`), what is said of each table from `described.py`, made once a run. What
depends on how a run of the node ended is added here: statistics, state, version and column lineage of what it wrote,
the findings of a test on what it read.
"""

from __future__ import annotations

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

from ..events import NodeFinished
from ..graph import Graph, Node, is_table, materialized, relation
from ..meta import Owners
from ..warehouse import Connection, Warehouse
from . import checks
from .columns import Query
from .described import TYPES, described
from .origins import Origin
from .schemas import Schemas

State = lifecycle_state_change_dataset.LifecycleStateChange


class Datasets:
    """The tables of one run, by dbt's nodes."""

    def __init__(
        self, graph: Graph, warehouse: Warehouse, connection: Connection, schemas: Schemas, owners: Owners
    ) -> None:
        self._graph = graph
        self._warehouse = warehouse
        self._connection = connection
        self._schemas = schemas
        self._owners = owners
        self._facets: dict[str, dict[str, DatasetFacet]] = {}
        self._versions: dict[str, str] = {}
        self.namespace = warehouse.namespace(connection)
        self.dialect = warehouse.dialect

    def inputs(self, node: Node, life: NodeFinished | None = None) -> list[InputDataset]:
        """Return the tables that a node reads, each once; with `life`, all that is known of them."""
        tables = {self.name(table): table for table in self._graph.tables_upstream(node)}
        if life is None:
            return [InputDataset(namespace=self.namespace, name=name) for name in tables]
        return [
            InputDataset(
                namespace=self.namespace,
                name=name,
                facets={**self._described(table), **self._version(table)},
                inputFacets=checks.input_facets(node, life, table) | _bytes_read(life, alone=len(tables) == 1),
            )
            for name, table in tables.items()
        ]

    def outputs(self, node: Node, life: NodeFinished, run_id: str, *, full_refresh: bool) -> list[OutputDataset]:
        """Return the table that a node has written: none for a check or a source, which are only looked at."""
        if not is_table(node) or node["resource_type"] == "source":
            return []
        if materialized(node) not in TYPES:
            # Each run that writes a table makes a version of it, which later runs of the command read.
            self._versions[node["unique_id"]] = run_id
        facets = {**self._described(node), **self._version(node)}
        if state := _state(node, full_refresh=full_refresh):
            facets["lifecycleStateChange"] = lifecycle_state_change_dataset.LifecycleStateChangeDatasetFacet(state)
        if lineage := self._column_lineage(node):
            facets["columnLineage"] = lineage
        rows = _rows(node, life, self._warehouse)
        written: dict[str, OutputDatasetFacet] = {}
        if rows is not None:
            written["outputStatistics"] = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(
                rowCount=rows
            )
        return [OutputDataset(namespace=self.namespace, name=self.name(node), facets=facets, outputFacets=written)]

    def query(self, node: Node) -> Query | None:
        """Return what a model yields, as far as it could be worked out."""
        return self._schemas.query(node)

    def name(self, node: Node) -> str:
        """Return the OpenLineage name of a node's table."""
        identifier = node.get("identifier") or node.get("alias") or node["name"]
        parts = {"database": node.get("database"), "schema": node.get("schema"), "identifier": identifier}
        # dbt's relation name says which parts it quotes; the engine folds the others.
        shown = str(node.get("relation_name") or "")
        folded = {
            kind: part if not part or f'"{part}"' in shown else self._warehouse.fold(part)
            for kind, part in parts.items()
        }
        return self._warehouse.dataset_name(folded)

    def _described(self, node: Node) -> dict[str, DatasetFacet]:
        key = node["unique_id"]
        if key not in self._facets:
            name = self.name(node)
            facets: dict[str, DatasetFacet] = {
                "dataSource": datasource_dataset.DatasourceDatasetFacet(name=self.namespace, uri=self.namespace)
            }
            if others := self._warehouse.others(self._connection, name):
                facets["symlinks"] = symlinks_dataset.SymlinksDatasetFacet(
                    identifiers=[symlinks_dataset.Identifier(*other, type="TABLE") for other in others]
                )
            table, exposures = self._schemas.table(node), self._graph.exposures(node)
            self._facets[key] = facets | described(
                node, table, exposures, warehouse=self._warehouse, owners=self._owners
            )
        return self._facets[key]

    def _version(self, node: Node) -> dict[str, DatasetFacet]:
        version = self._versions.get(node["unique_id"])
        if version is None:
            return {}
        return {"version": dataset_version_dataset.DatasetVersionDatasetFacet(datasetVersion=version)}

    def _column_lineage(self, node: Node) -> DatasetFacet | None:
        query = self._schemas.query(node)
        if query is None:
            return None
        names = {".".join(relation(table)): self.name(table) for table in self._graph.tables_upstream(node)}
        fields = {
            name: column_lineage_dataset.Fields(inputFields=self._input_fields(column.origins, names))
            for name, column in query.columns.items()
            if column.known and column.origins
        }
        rows = self._input_fields(query.rows, names)
        return column_lineage_dataset.ColumnLineageDatasetFacet(fields=fields, dataset=rows) if fields or rows else None

    def _input_fields(
        self, origins: frozenset[Origin], names: dict[str, str]
    ) -> list[column_lineage_dataset.InputField]:
        steps: dict[tuple[str, str], list[column_lineage_dataset.Transformation]] = {}
        for origin in sorted(origins):
            steps.setdefault((names[origin.table], origin.column), []).append(
                column_lineage_dataset.Transformation(type=origin.type, subtype=origin.subtype)
            )
        return [
            column_lineage_dataset.InputField(self.namespace, table, column, transformations)
            for (table, column), transformations in steps.items()
        ]


def _state(node: Node, *, full_refresh: bool) -> State | None:
    """Return what became of a table by building it; nothing where rows were only added or changed."""
    kind = materialized(node)
    if kind in TYPES:
        return State.CREATE
    if kind in {"table", "seed"} or (kind == "incremental" and full_refresh):
        return State.OVERWRITE
    return None


def _rows(node: Node, life: NodeFinished, warehouse: Warehouse) -> int | None:
    """Return how many rows a node wrote; engines say -1, or nothing, where they have not counted."""
    told = life.response.get("rows_affected")
    if materialized(node) in TYPES or not isinstance(told, int | float) or told < 0:
        return None
    return None if told == warehouse.rows_of_create else int(told)


def _bytes_read(life: NodeFinished, *, alone: bool) -> dict[str, InputDatasetFacet]:
    """Return what BigQuery has billed for reading; of several tables it is not known which had how much."""
    told = life.response.get("bytes_processed")
    if not alone or not isinstance(told, int | float):
        return {}
    return {"inputStatistics": input_statistics_input_dataset.InputStatisticsInputDatasetFacet(size=int(told))}
