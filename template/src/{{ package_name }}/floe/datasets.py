"""A dbt node -> the OpenLineage dataset that it is.

Follows https://openlineage.io/docs/spec/facets/dataset-facets; names come from the warehouse (`warehouse.py`).
"""

from __future__ import annotations

from openlineage.client.event_v2 import InputDataset, OutputDataset
from openlineage.client.facet_v2 import (
    DatasetFacet,
    dataset_type_dataset,
    datasource_dataset,
    documentation_dataset,
    ownership_dataset,
    schema_dataset,
    tags_dataset,
)

from .graph import Graph, Node, is_table, materialized
from .meta import read_column_meta, read_node_meta
from .warehouse import Connection, Warehouse

TAG_SOURCE = "DBT"


class Datasets:
    """The tables of one run, by dbt's nodes."""

    def __init__(self, graph: Graph, warehouse: Warehouse, connection: Connection) -> None:
        self._graph = graph
        self._warehouse = warehouse
        self.namespace = warehouse.namespace(connection)
        self.dialect = warehouse.dialect

    def inputs(self, node: Node) -> list[InputDataset]:
        """Return the tables that a node reads, each once."""
        found = {}
        for upstream in self._graph.tables_upstream(node):
            name = self.name(upstream)
            found[name] = InputDataset(namespace=self.namespace, name=name, facets=self._facets(upstream))
        return list(found.values())

    def outputs(self, node: Node) -> list[OutputDataset]:
        """Return the table that a node writes: none for a test or an ephemeral model."""
        if not is_table(node):
            return []
        return [OutputDataset(namespace=self.namespace, name=self.name(node), facets=self._facets(node))]

    def name(self, node: Node) -> str:
        """Return the OpenLineage name of a node's table."""
        # A source may lie in a table that is not called as the source is.
        identifier = node.get("identifier") or node.get("alias") or node["name"]
        relation = {"database": node.get("database"), "schema": node.get("schema"), "identifier": identifier}
        return self._warehouse.dataset_name(relation)

    def _facets(self, node: Node) -> dict[str, DatasetFacet]:
        facets: dict[str, DatasetFacet | None] = {
            "dataSource": datasource_dataset.DatasourceDatasetFacet(name=self.namespace, uri=self.namespace),
            "datasetType": dataset_type_dataset.DatasetTypeDatasetFacet(datasetType=_type(node)),
            "documentation": _documentation(node),
            "ownership": _ownership(node),
            "schema": _schema(node),
            "tags": _tags(node),
        }
        return {name: facet for name, facet in facets.items() if facet is not None}


def _type(node: Node) -> str:
    return {"view": "VIEW", "materialized_view": "MATERIALIZED_VIEW"}.get(materialized(node), "TABLE")


def _documentation(node: Node) -> DatasetFacet | None:
    text = node.get("description")
    return documentation_dataset.DocumentationDatasetFacet(description=text) if text else None


def _ownership(node: Node) -> DatasetFacet | None:
    owner = read_node_meta(node, _ignore).owner
    if not owner:
        return None
    return ownership_dataset.OwnershipDatasetFacet(owners=[ownership_dataset.Owner(name=owner, type="OWNER")])


def _schema(node: Node) -> DatasetFacet | None:
    fields = [
        schema_dataset.SchemaDatasetFacetFields(
            name=column["name"],
            type=column.get("data_type"),
            description=column.get("description") or None,
            ordinal_position=position,
        )
        for position, column in enumerate(node.get("columns", {}).values(), start=1)
    ]
    return schema_dataset.SchemaDatasetFacet(fields=fields) if fields else None


def _tags(node: Node) -> DatasetFacet | None:
    field = tags_dataset.TagsDatasetFacetFields
    tags = [field(key=tag, value="true", source=TAG_SOURCE) for tag in node.get("tags", [])]
    meta = read_node_meta(node, _ignore)
    tags += [
        field(key=key, value=value, source=TAG_SOURCE)
        for key, value in (("classification", meta.classification), ("sla", meta.sla))
        if value
    ]
    for name, column in read_column_meta(node, _ignore).items():
        tags += [
            field(key=key, value=value, source=TAG_SOURCE, field=name)
            for key in column.__slots__
            if (value := getattr(column, key))
        ]
    return tags_dataset.TagsDatasetFacet(tags=tags) if tags else None


def _ignore(_: str) -> None:
    """Say nothing: the translator has warned already."""
