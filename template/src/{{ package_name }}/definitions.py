"""The code location that Dagster loads: everything in `defs/`, with logging set up by `floe/logs.py`."""

from pathlib import Path

import dagster as dg

from .floe.logs import write_logs


@dg.definitions
def defs() -> dg.Definitions:
    """Set up logging and return the definitions found in `defs/`."""
    write_logs()
    return dg.load_from_defs_folder(path_within_project=Path(__file__).parent)
