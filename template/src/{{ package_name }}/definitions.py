"""The code location that Dagster loads: everything in `defs/`, with logs, lineage and traces of every step."""

from pathlib import Path

import dagster as dg

from .floe.logs import write_logs
from .floe.run import observe_steps


@dg.definitions
def defs() -> dg.Definitions:
    """Set up logging and return the definitions found in `defs/`, whose steps are observed."""
    write_logs()
    return observe_steps(dg.load_from_defs_folder(path_within_project=Path(__file__).parent))
