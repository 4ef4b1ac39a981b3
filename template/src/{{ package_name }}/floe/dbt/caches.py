"""Caches for values that dagster-dbt and Dagster would compute again and again.

The names are their own affair. Should a release of theirs rename one, nothing is spared, and nothing else happens.
"""

from __future__ import annotations

import shutil
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path

import dagster as dg
from dagster_dbt import DbtCliResource
from dagster_dbt.compat import DBT_PYTHON_VERSION


def cache_dbt_version(dbt: DbtCliResource) -> None:
    """Spare dagster-dbt its `dbt --version`, two seconds a step, where dbt is the one of this environment."""
    executable = shutil.which(dbt.dbt_executable)
    if DBT_PYTHON_VERSION and executable and Path(executable).parent == Path(sys.executable).parent:
        dbt.__dict__.setdefault("_cli_version", DBT_PYTHON_VERSION)


def cache_output_keys(context: dg.AssetExecutionContext | dg.OpExecutionContext) -> None:
    """Spare Dagster the set of the step's assets, which it makes anew for each asset and check that is yielded.

    Each time that costs the square of their number: with 1,000 models a quarter of the step's time.
    """
    with suppress(Exception):  # a context without a step, as tests make them
        step = context.get_step_execution_context()
        step.__dict__.setdefault("get_output_asset_keys", cache(step.get_output_asset_keys))
