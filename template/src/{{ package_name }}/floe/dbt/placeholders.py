"""Placeholders for the variables of `profiles.yml` while `floe prepare` makes the manifest.

dbt connects to nothing when it parses, so a variable that is not set needs no value. Those that name a database or a
schema are stood in for even if they are set: whoever loads the manifest puts the values of its own environment in their
place, so that the machine which made it does not decide which tables Dagster shows.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..secret_values import ProfileVariable, is_credential, profile_variables
from ..settings import Settings
from .profile import ProfileError, read_output

# Keys of a connection, under all names that adapters have for them, from which dbt makes the names of tables.
NAMING = {"database", "dbname", "catalog", "project", "schema", "dataset"}
# DuckDB's: its file's name is the database's.
FILE = "path"


def placeholders(settings: Settings) -> tuple[dict[str, str], list[str]]:
    """Return what the variables of the chosen output are to be while dbt parses, and which are missing.

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
    """Return a manifest with the values of this environment in the place of placeholders; a missing one stays."""
    if b"_of_run__" not in manifest.lower():
        return manifest
    try:
        output = read_output(settings)
    except ProfileError:  # dbt's to say
        return manifest
    files = {variable.name for variable in profile_variables({FILE: output.get(FILE)})}
    values: dict[bytes, bytes] = {}
    for variable in profile_variables(output):
        value = os.environ.get(variable.name, variable.default)
        if value is None or is_credential(variable.name):
            continue
        if variable.name in files:
            value = Path(value.partition("?")[0]).stem
        # A macro of the project's may have changed the case; what is not changed comes last, and so wins.
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
