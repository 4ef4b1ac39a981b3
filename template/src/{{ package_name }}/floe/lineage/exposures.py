"""The exposures that read a table, such as dashboards, as a dataset facet."""

from __future__ import annotations

import attr
from openlineage.client.facet_v2 import DatasetFacet
from openlineage.client.utils import RedactMixin

from ..dbt.manifest_graph import Node
from .custom_facets import DBT_SCHEMAS


@attr.define
class DbtExposure(RedactMixin):
    """An exposure, such as a dashboard."""

    unique_id: str
    name: str
    type: str | None = None
    url: str | None = None


@attr.define
class DbtExposuresDatasetFacet(DatasetFacet):
    """The exposures that read a table: key `dbt_exposures`."""

    exposures: list[DbtExposure]

    @staticmethod
    def _get_schema() -> str:
        return DBT_SCHEMAS + "dbt-exposures-dataset-facet.json"


def exposures_facet(exposures: list[Node]) -> DbtExposuresDatasetFacet | None:
    """Return the facet for `exposures` of the manifest, or None if there are none."""
    if not exposures:
        return None
    return DbtExposuresDatasetFacet(
        exposures=[
            DbtExposure(
                unique_id=exposure["unique_id"],
                name=exposure["name"],
                type=exposure.get("type"),
                url=exposure.get("url"),
            )
            for exposure in exposures
        ]
    )
