"""What assets are given by name."""

import dagster as dg
from dagster_dbt import DbtCliResource

from ..project import dbt_project


@dg.definitions
def resources() -> dg.Definitions:
    """Return the dbt command."""
    return dg.Definitions(resources={"dbt": DbtCliResource(project_dir=dbt_project)})
