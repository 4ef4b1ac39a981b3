"""The manifest that Dagster's assets are made from."""

from __future__ import annotations

import os
from typing import Any

import orjson
from dagster_dbt import DbtProject

# Names the manifest that a parent process has just made.
PREPARED = "FLOE_PREPARED_MANIFEST"


def prepare_once(project: DbtProject) -> None:
    """Let dbt parse `project` in development, as dagster-dbt does, but not again in the processes of its steps."""
    made = _stamp(project)
    if made and os.environ.get(PREPARED) == made:
        return
    project.prepare_if_dev()
    os.environ[PREPARED] = _stamp(project)


def load_manifest(project: DbtProject) -> dict[str, Any]:
    """Return dbt's manifest of `project`; outside production a missing one is made by `dbt parse`.

    Raises:
        FileNotFoundError: There is none and the dbt output is `prod`: it belongs into the image, made at build time.
    """
    if not project.manifest_path.exists():
        if project.target == "prod":
            raise FileNotFoundError(
                f"{project.manifest_path} is missing: make it when the image is built, `DBT_TARGET=prod floe prepare`"
            )
        project.preparer.prepare(project)
    manifest: dict[str, Any] = orjson.loads(project.manifest_path.read_bytes())
    return manifest


def _stamp(project: DbtProject) -> str:
    path = project.manifest_path
    return f"{path}:{path.stat().st_mtime_ns}" if path.exists() else ""
