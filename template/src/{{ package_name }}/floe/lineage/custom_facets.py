"""Facets outside OpenLineage's specification: those that dbt-ol has for dbt, and our own.

Our own facet is the classification of columns; its JSON schema is in the same folder. Everything else in `floe` uses
the standard facets of `openlineage.client.facet_v2`.
"""

from __future__ import annotations

from typing import ClassVar

import attr
from openlineage.client.facet_v2 import DatasetFacet, JobFacet, RunFacet
from openlineage.client.utils import RedactMixin

DBT_SCHEMAS = "https://github.com/OpenLineage/OpenLineage/tree/main/integration/common/openlineage/schema/"


@attr.define
class DbtVersionRunFacet(RunFacet):
    """The version of dbt: key `dbt_version`."""

    version: str

    @staticmethod
    def _get_schema() -> str:
        return DBT_SCHEMAS + "dbt-version-run-facet.json"


@attr.define
class DbtRunRunFacet(RunFacet):
    """The dbt command: key `dbt_run`."""

    invocation_id: str
    project_name: str | None = None
    dbt_runtime: str | None = None
    project_version: str | None = None
    profile_name: str | None = None
    full_refresh: bool | None = None

    @staticmethod
    def _get_schema() -> str:
        return DBT_SCHEMAS + "dbt-run-run-facet.json"


@attr.define
class DbtNodeJobFacet(JobFacet):
    """A node of dbt's manifest: key `dbt_node`."""

    original_file_path: str | None = None
    database: str | None = None
    schema: str | None = None
    alias: str | None = None
    unique_id: str | None = None
    test_type: str | None = None

    @staticmethod
    def _get_schema() -> str:
        return DBT_SCHEMAS + "dbt-node-job-facet.json"


@attr.define
class DbtIncremental(RedactMixin):
    """The configuration of an incremental model."""

    strategy: str | None = None
    unique_key: list[str] | None = None
    incremental_predicates: list[str] | None = None
    on_schema_change: str | None = None
    partition_by: dict[str, str | list[str]] | None = None
    event_time: str | None = None
    batch_size: str | None = None
    begin: str | None = None
    lookback: int | None = None
    full_refresh: bool | None = None


@attr.define
class DbtModelConfig(RedactMixin):
    """The parts of a model's resolved configuration that matter to its observers."""

    materialized: str | None = None
    access: str | None = None
    owner: str | None = None
    group: str | None = None
    incremental: DbtIncremental | None = None


@attr.define
class DbtModelDatasetFacet(DatasetFacet):
    """The configuration of the model that builds a table: key `dbt_model`."""

    config: DbtModelConfig

    @staticmethod
    def _get_schema() -> str:
        return DBT_SCHEMAS + "dbt-model-dataset-facet.json"


@attr.define
class ColumnClassification(RedactMixin):
    """The entries of a column's `meta.floe`."""

    classification: str | None = None
    pii_type: str | None = None
    sensitivity: str | None = None


@attr.define
class ColumnClassificationDatasetFacet(DatasetFacet):
    """The classified columns of a table, by name: key `floe_columnClassification`."""

    # The address of `ColumnClassificationDatasetFacet.json`; `facet_schema` in settings.toml overrides it.
    schema_url: ClassVar[str] = (
        "https://raw.githubusercontent.com/org/floe-template/main/facets/1-0-0/ColumnClassificationDatasetFacet.json"
    )

    classifications: dict[str, ColumnClassification]

    @classmethod
    def _get_schema(cls) -> str:
        return cls.schema_url
