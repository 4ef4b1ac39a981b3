"""Resources that assets can request by parameter name."""

import dagster as dg
from dagster_dbt import DbtCliResource

from ..project import dbt_project


@dg.definitions
def resources() -> dg.Definitions:
    """Return the resources: `dbt` runs dbt commands."""
    return dg.Definitions(resources={"dbt": DbtCliResource(project_dir=dbt_project)})
