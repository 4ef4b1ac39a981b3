"""The loading of a rendered project as Dagster does it; a server process imports this once and forks per project."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import dagster_dbt  # noqa: F401 - imported for the processes to come, like what follows
import dbt.adapters.duckdb  # noqa: F401
import openlineage.client  # noqa: F401
import opentelemetry.sdk.trace  # noqa: F401
import sqlglot  # noqa: F401
import structlog  # noqa: F401
from dbt.cli.main import dbtRunner

BUILT = {"model", "seed", "snapshot"}


def load(root: Path, answers: Mapping[str, Any], manifest: Path | None = None) -> str:
    """Load the definitions of the project at `root` as in production, and return what is wrong.

    The manifest is `manifest`, or else what dbt makes of the project, its warnings being errors.
    """
    os.chdir(root)
    os.environ["DBT_TARGET"] = "local"
    sys.path.insert(0, str(root / "src"))
    project, profiles = answers["dbt_project_dir"], answers["profiles_dir"]
    artifacts = root / answers["artifacts_dir"]
    if manifest:
        artifacts.mkdir(parents=True)
        shutil.copy(manifest, artifacts)
    else:
        options = ["--quiet", "--no-send-anonymous-usage-stats", "--warn-error", "--log-path", "logs"]
        where = ["--project-dir", project, "--profiles-dir", profiles, "--profile", answers["package_name"]]
        parsed = dbtRunner().invoke([*options, "parse", *where, "--target-path", str(artifacts)])
        if not parsed.success:
            return f"dbt parse: {parsed.exception}"
    nodes = json.loads((artifacts / "manifest.json").read_text())["nodes"].values()
    built = {
        node["name"]
        for node in nodes
        if node["resource_type"] in BUILT and node["config"]["materialized"] != "ephemeral"
    }
    try:
        definitions = importlib.import_module(f"{answers['package_name']}.definitions").defs()
        dg.Definitions.validate_loadable(definitions)
        assets = {key.path[-1] for key in definitions.resolve_asset_graph().materializable_asset_keys}
    except Exception as error:  # whatever it is, the test shows it
        return f"definitions: {error!r}"
    return "" if built == assets else f"dbt has {sorted(built)}, Dagster {sorted(assets)}"
