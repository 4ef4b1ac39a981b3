"""Tests of the secrets in a run with real dbt: they are in nothing that it leaves or sends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tools import runs


def test_run(project: Path, tmp_path: Path) -> None:
    """A secret that the warehouse repeats in its message is in nothing that a real run leaves or sends."""
    broken = {"models/marts/broken.sql": "select * from \"{{ env_var('WAREHOUSE_PASSWORD') }}\"\n"}
    copied = runs.copy(project, tmp_path / "project", broken)
    events, config = tmp_path / "events.json", tmp_path / "openlineage.yml"
    config.write_text(json.dumps({"transport": {"type": "file", "log_file_path": str(events), "append": True}}))
    secret = "f00/b4r b4z"
    variables: dict[str, Any] = {"OPENLINEAGE_CONFIG": str(config), "WAREHOUSE_PASSWORD": secret, "FLOE_TRACE_SQL": "1"}

    run = runs.launch(copied, **variables)

    places = {file.name: file.read_bytes() for file in (copied / "home").rglob("*") if file.is_file()}
    places |= {"output": run.output.encode(), "lineage": events.read_bytes(), "spans": repr(run.spans).encode()}
    assert [] == [name for name, content in places.items() if secret.encode() in content]
    assert [] == [name for name in ("output", "lineage", "spans") if b"[hidden]" not in places[name]]
