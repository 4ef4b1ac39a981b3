"""Placeholders for the variables of `profiles.yml` while `floe prepare` makes the manifest.

dbt does not connect to the warehouse when it parses, so any value will do for a variable that is not set. Variables
that name a database or a schema get a placeholder even if they are set. Whoever loads the manifest fills in the values
of its own environment, so that the machine that made the manifest does not decide which tables Dagster shows.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..redact.secret_values import ProfileVariable, is_credential, profile_variables
from ..settings import Settings
from .profile import ProfileError, read_output

# Keys of a connection from which dbt builds the names of tables, in the spellings of all adapters.
NAMING = {"database", "dbname", "catalog", "project", "schema", "dataset"}
# The key for DuckDB, whose database is named after its file.
FILE = "path"


def placeholders(settings: Settings) -> tuple[dict[str, str], list[str]]:
    """Return values for the chosen output's variables while dbt parses, and the names of the missing variables.

    Raises:
        ProfileError: The output cannot be read.
    """
    output = read_output(settings)
    naming = {variable.name for variable in _naming(output)}
    missing = [
        variable.name
        for variable in profile_variables(output)
        if variable.default is None and variable.name not in os.environ
    ]
    missing = list(dict.fromkeys(missing))
    return {name: _placeholder(name) for name in (*naming, *missing)}, missing


def restored(manifest: bytes, settings: Settings) -> bytes:
    """Replace placeholders in a manifest by the values of this environment; those of missing variables stay."""
    if b"_of_run__" not in manifest.lower():
        return manifest
    try:
        output = read_output(settings)
    except ProfileError:  # dbt reports this itself
        return manifest
    files = {variable.name for variable in profile_variables({FILE: output.get(FILE)})}
    values: dict[bytes, bytes] = {}
    for variable in profile_variables(output):
        value = os.environ.get(variable.name, variable.default)
        if value is None or is_credential(variable.name):
            continue
        if variable.name in files:
            value = Path(value.partition("?")[0]).stem
        # A macro of the project may have changed the case. The unchanged case comes last, so that it takes precedence.
        for case in (str.upper, str.lower, str):
            values[case(_placeholder(variable.name)).encode()] = json.dumps(case(value))[1:-1].encode()
    pattern = re.compile(b"|".join(map(re.escape, values)))
    return pattern.sub(lambda match: values[match[0]], manifest) if values else manifest


def _naming(output: Mapping[str, Any]) -> list[ProfileVariable]:
    keys = NAMING | ({FILE} if output.get("type") == "duckdb" else set())
    variables = profile_variables({key: value for key, value in output.items() if key in keys})
    return [variable for variable in variables if not variable.is_secret]


def _placeholder(name: str) -> str:
    return f"__{name}_of_run__"
