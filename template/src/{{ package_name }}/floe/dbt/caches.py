"""Caches for values that dagster-dbt and Dagster would otherwise compute repeatedly.

This relies on private attributes. If a release renames one, the cache is skipped and everything else still works.
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
    """Save dagster-dbt the call of `dbt --version`, two seconds per step, if dbt is installed in this environment."""
    executable = shutil.which(dbt.dbt_executable)
    if DBT_PYTHON_VERSION and executable and Path(executable).parent == Path(sys.executable).parent:
        dbt.__dict__.setdefault("_cli_version", DBT_PYTHON_VERSION)


def cache_output_keys(context: dg.AssetExecutionContext | dg.OpExecutionContext) -> None:
    """Cache the set of the step's assets, which Dagster otherwise builds again for each asset and check.

    The time for this grows with the square of their number: with 1,000 models it is a quarter of the step's time.
    """
    with suppress(Exception):  # a context without a step, as in tests
        step = context.get_step_execution_context()
        step.__dict__.setdefault("get_output_asset_keys", cache(step.get_output_asset_keys))
