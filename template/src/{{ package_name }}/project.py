"""The dbt project.

Add nothing else here: `floe prepare` imports this module before a manifest exists.
"""

from dagster_dbt import DbtProject

from .floe.dbt.prepare import prepare_once
from .floe.settings import settings

dbt_project = DbtProject(
    project_dir=settings.dbt_project_dir,
    target_path=settings.dbt_artifacts_dir,
    profiles_dir=settings.dbt_profiles_dir,
    profile=settings.dbt_profile or None,
    # Set explicitly, because dagster-dbt's own connection to the warehouse does not read DBT_TARGET.
    target=settings.dbt_target,
)
prepare_once(dbt_project)
