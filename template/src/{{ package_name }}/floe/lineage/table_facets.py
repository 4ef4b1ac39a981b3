"""The dataset facets of a dbt node that are the same in every event of a run.

In: a node, and its known columns. Out: facets of https://openlineage.io/docs/spec/facets/dataset-facets. A facet
without content is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from openlineage.client.facet_v2 import (
    DatasetFacet,
    catalog_dataset,
    dataset_type_dataset,
    documentation_dataset,
    ownership_dataset,
    schema_dataset,
    storage_dataset,
    tags_dataset,
)

from ..assets.meta import ColumnMeta, Owners, as_dict, read_column_meta, read_node_meta
from ..dbt.manifest_graph import Node, materialized
from ..faults import detail
from ..warehouse import Warehouse
from .columns import TableColumns
from .custom_facets import (
    ColumnClassification,
    ColumnClassificationDatasetFacet,
    DbtIncremental,
    DbtModelConfig,
    DbtModelDatasetFacet,
)
from .exposures import exposures_facet

TAG_SOURCE = "DBT"
TYPES = {"view": "VIEW", "materialized_view": "MATERIALIZED_VIEW", "dynamic_table": "MATERIALIZED_VIEW"}
# Table formats, by their names in https://openlineage.io/docs/spec/facets/dataset-facets/storage.
FORMATS = {"delta", "iceberg"}


def table_facets(
    node: Node, table: TableColumns, exposures: list[Node], *, warehouse: Warehouse, owners: Owners, is_file: bool
) -> dict[str, DatasetFacet]:
    """Return the facets of a node's table that do not depend on how it was built."""
    # Use the engine's column names, whose case may differ from the project's.
    names = {name.lower(): name for name in table.columns}
    columns = detail(read_column_meta, node, _ignore) or {}
    classified = {names.get(name.lower(), name): meta for name, meta in columns.items()}
    facets: dict[str, DatasetFacet | None] = {
        "datasetType": dataset_type_dataset.DatasetTypeDatasetFacet(datasetType="FILE" if is_file else _type(node)),
        "documentation": detail(_documentation, node),
        "ownership": detail(lambda: _ownership(owners(node))),
        "schema": detail(_schema, node, table),
        "tags": detail(_tags, node, names, classified),
        "floe_columnClassification": detail(_classification, classified),
        "storage": detail(_storage, node, warehouse),
        "catalog": detail(_catalog, node, warehouse),
        "dbt_model": detail(_model, node),
        "dbt_exposures": detail(exposures_facet, exposures),
    }
    return {name: facet for name, facet in facets.items() if facet is not None}


def _type(node: Node) -> str:
    return TYPES.get(materialized(node), "TABLE")


def _documentation(node: Node) -> DatasetFacet | None:
    text = node.get("description")
    return documentation_dataset.DocumentationDatasetFacet(description=text) if text else None


def _ownership(owners: Sequence[str]) -> DatasetFacet | None:
    facets = [ownership_dataset.Owner(name=owner, type="OWNER") for owner in owners]
    return ownership_dataset.OwnershipDatasetFacet(owners=facets) if facets else None


def _schema(node: Node, table: TableColumns) -> DatasetFacet | None:
    documented = {name.lower(): column for name, column in node.get("columns", {}).items()}
    fields = [
        schema_dataset.SchemaDatasetFacetFields(
            name=name,
            type=data_type,
            description=documented.get(name.lower(), {}).get("description") or None,
            # Between documented columns there may be undocumented ones.
            ordinal_position=position if table.complete and table.in_order else None,
        )
        for position, (name, data_type) in enumerate(table.columns.items(), start=1)
    ]
    return schema_dataset.SchemaDatasetFacet(fields=fields) if fields else None


def _tags(node: Node, names: dict[str, str], classified: dict[str, ColumnMeta]) -> DatasetFacet | None:
    field = tags_dataset.TagsDatasetFacetFields
    meta = read_node_meta(node, _ignore)
    tags = [field(key=tag, value="true", source=TAG_SOURCE) for tag in node.get("tags", [])]
    tags += [
        field(key=key, value=value, source=TAG_SOURCE)
        for key, value in (("classification", meta.classification), ("sla", meta.sla))
        if value
    ]
    for column in node.get("columns", {}).values():
        own = {*column.get("tags", []), *column.get("config", {}).get("tags", [])}
        name = names.get(column["name"].lower(), column["name"])
        tags += [field(key=tag, value="true", source=TAG_SOURCE, field=name) for tag in sorted(own)]
    for name, column_meta in classified.items():
        tags += [
            field(key=key, value=value, source=TAG_SOURCE, field=name) for key, value in as_dict(column_meta).items()
        ]
    return tags_dataset.TagsDatasetFacet(tags=tags) if tags else None


def _classification(classified: dict[str, ColumnMeta]) -> DatasetFacet | None:
    if not classified:
        return None
    return ColumnClassificationDatasetFacet(
        classifications={name: ColumnClassification(**as_dict(meta)) for name, meta in classified.items()}
    )


def _storage(node: Node, warehouse: Warehouse) -> DatasetFacet | None:
    layer = _format(node, warehouse)
    return storage_dataset.StorageDatasetFacet(storageLayer=layer, fileFormat="parquet") if layer else None


def _catalog(node: Node, warehouse: Warehouse) -> DatasetFacet | None:
    name = node.get("database")
    if warehouse.catalog is None or not name or name == "hive_metastore":
        return None
    return catalog_dataset.CatalogDatasetFacet(
        framework=_format(node, warehouse) or "delta", type=warehouse.catalog, name=name, source=warehouse.adapter
    )


def _format(node: Node, warehouse: Warehouse) -> str | None:
    config = node.get("config", {})
    # Views and sources have no format of their own, or none that dbt knows.
    if node["resource_type"] == "source" or materialized(node) in TYPES:
        return None
    file_format = config.get(warehouse.format_key)
    return file_format if file_format in FORMATS else None


def _model(node: Node) -> DatasetFacet | None:
    config = node.get("config", {})
    if node["resource_type"] == "source" or not config.get("materialized"):
        return None
    incremental = _incremental(config) if config["materialized"] == "incremental" else None
    return DbtModelDatasetFacet(
        config=DbtModelConfig(
            materialized=config["materialized"],
            access=config.get("access"),
            owner=config.get("owner"),
            group=config.get("group"),
            incremental=incremental,
        )
    )


def _incremental(config: Node) -> DbtIncremental:
    # dbt resolves these defaults for every model, but they have no meaning for other strategies.
    microbatch = config.get("incremental_strategy") == "microbatch"
    return DbtIncremental(
        strategy=config.get("incremental_strategy"),
        unique_key=_listed(config.get("unique_key")),
        incremental_predicates=_listed(config.get("incremental_predicates") or config.get("predicates")),
        on_schema_change=config.get("on_schema_change"),
        partition_by=_partition(config.get("partition_by")),
        event_time=config.get("event_time") if microbatch else None,
        batch_size=config.get("batch_size") if microbatch else None,
        begin=str(config["begin"]) if microbatch and config.get("begin") else None,
        lookback=config.get("lookback") if microbatch else None,
        full_refresh=config.get("full_refresh"),
    )


def _partition(partition: Any) -> dict[str, str | list[str]] | None:
    if isinstance(partition, dict):
        return {key: partition[key] for key in ("field", "data_type", "granularity") if partition.get(key)} or None
    columns = _listed(partition)
    return {"columns": columns} if columns else None


def _listed(value: Any) -> list[str] | None:
    values = [value] if isinstance(value, str) else list(value or [])
    return [str(value) for value in values if value] or None


def _ignore(_: str) -> None:
    """Ignore a problem, because the translator has already warned about it."""
