"""The dataset facets of an asset that Python code has materialized, from its spec and its metadata.

In: the asset spec, and the metadata of the materialization. Out: facets of
https://openlineage.io/docs/spec/facets/dataset-facets. A facet without content is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import dagster as dg
from openlineage.client.facet_v2 import (
    DatasetFacet,
    OutputDatasetFacet,
    column_lineage_dataset,
    datasource_dataset,
    documentation_dataset,
    output_statistics_output_dataset,
    ownership_dataset,
    schema_dataset,
    symlinks_dataset,
    tags_dataset,
)

from ..assets.translator import COLUMN_SCHEMA
from ..faults import detail
from .dagster_metadata import COLUMN_LINEAGE, ROW_COUNT, UNKNOWN_TYPE
from .locations import DatasetName

PARTITION_ROW_COUNT = "dagster/partition_row_count"
TAG_SOURCE = "DAGSTER"
INTERNAL_TAGS = "dagster/"

Name = Callable[[dg.AssetKey], DatasetName | None]


def asset_facets(
    name: DatasetName, spec: dg.AssetSpec, metadata: Mapping[str, Any], alternatives: list[tuple[str, str]]
) -> dict[str, DatasetFacet]:
    """Return the facets of an asset's table or file; `alternatives` are its other names."""
    facets: dict[str, DatasetFacet | None] = {
        "dataSource": datasource_dataset.DatasourceDatasetFacet(
            name=name.namespace, uri=name.namespace if name.namespace != "file" else "file:///"
        ),
        "documentation": documentation_dataset.DocumentationDatasetFacet(description=spec.description)
        if spec.description
        else None,
        "ownership": ownership_dataset.OwnershipDatasetFacet(
            owners=[ownership_dataset.Owner(name=owner, type="OWNER") for owner in spec.owners]
        )
        if spec.owners
        else None,
        "schema": detail(_schema, metadata.get(COLUMN_SCHEMA)),
        "tags": detail(_tags, spec, metadata.get(COLUMN_SCHEMA)),
        "symlinks": symlinks_dataset.SymlinksDatasetFacet(
            identifiers=[symlinks_dataset.Identifier(*alternative, type="TABLE") for alternative in alternatives]
        )
        if alternatives
        else None,
    }
    return {facet_name: facet for facet_name, facet in facets.items() if facet is not None}


def column_lineage(metadata: Mapping[str, Any], name: Name) -> tuple[DatasetFacet | None, list[str]]:
    """Return the column lineage that an asset gives of itself, and a message for each column that is left out.

    Dagster does not record how a column is made of others, so there are no transformations.
    """
    lineage = metadata.get(COLUMN_LINEAGE)
    if not isinstance(lineage, dg.TableColumnLineage):
        return None, []
    fields: dict[str, column_lineage_dataset.Fields] = {}
    problems = []
    for column, deps in lineage.deps_by_column.items():
        names = [(name(dep.asset_key), dep.column_name) for dep in deps]
        inputs = [column_lineage_dataset.InputField(*known, column_name) for known, column_name in names if known]
        if len(inputs) == len(names) > 0:
            fields[column] = column_lineage_dataset.Fields(inputFields=inputs)
        elif names:
            problems.append(f"column lineage: {column} is made of an asset that has no name in OpenLineage")
    return (column_lineage_dataset.ColumnLineageDatasetFacet(fields=fields) if fields else None), problems


def statistics(metadata: Mapping[str, Any], *, is_partition: bool) -> dict[str, OutputDatasetFacet]:
    """Return the number of rows written, if the asset gives it."""
    count = metadata.get(PARTITION_ROW_COUNT)
    if count is None and not is_partition:  # the count of all partitions is not that of the one written
        count = metadata.get(ROW_COUNT)
    if not isinstance(count, int) or isinstance(count, bool) or count < 0:
        return {}
    return {"outputStatistics": output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(rowCount=count)}


def _schema(schema: Any) -> DatasetFacet | None:
    if not isinstance(schema, dg.TableSchema) or not schema.columns:
        return None
    return schema_dataset.SchemaDatasetFacet(
        fields=[
            schema_dataset.SchemaDatasetFacetFields(
                name=column.name,
                type=None if column.type == UNKNOWN_TYPE else column.type,
                description=column.description or None,
                ordinal_position=position,
            )
            for position, column in enumerate(schema.columns, start=1)
        ]
    )


def _tags(spec: dg.AssetSpec, schema: Any) -> DatasetFacet | None:
    field = tags_dataset.TagsDatasetFacetFields
    own = {key: value for key, value in spec.tags.items() if not key.startswith(INTERNAL_TAGS)}
    tags = [field(key=key, value=value or "true", source=TAG_SOURCE) for key, value in own.items()]
    for column in schema.columns if isinstance(schema, dg.TableSchema) else ():
        tags += [
            field(key=key, value=value or "true", source=TAG_SOURCE, field=column.name)
            for key, value in column.tags.items()
        ]
    return tags_dataset.TagsDatasetFacet(tags=tags) if tags else None
