"""Tests read the project as it lies: dbt parses it anew, and the output is the one without credentials."""

import os

os.environ["DAGSTER_IS_DEV_CLI"] = "1"
os.environ["DBT_TARGET"] = "local"
