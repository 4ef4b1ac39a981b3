"""The manifest that Dagster's assets are made from."""

from __future__ import annotations

import json
from typing import Any

from dagster_dbt import DbtProject


def load_manifest(project: DbtProject) -> dict[str, Any]:
    """Return dbt's manifest of `project`; outside production a missing one is made by `dbt parse`.

    Raises:
        FileNotFoundError: There is none and the dbt output is `prod`: it belongs into the image, made at build time.
    """
    if not project.manifest_path.exists():
        if project.target == "prod":
            msg = f"{project.manifest_path} is missing: make it at build time with `dbt parse --target prod`"
            raise FileNotFoundError(msg)
        project.preparer.prepare(project)
    manifest: dict[str, Any] = json.loads(project.manifest_path.read_bytes())
    return manifest
