"""Test of dagster.yaml, as `dg` reads it from the folder of a rendered project."""

from __future__ import annotations

from pathlib import Path

import pytest
from dagster._cli.utils import get_possibly_temporary_instance_for_cli

from tools.rendering import render


def test_instance(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs and outputs lie in the project's `local/`; Dagster sends no statistics and shows no newsletter."""
    project = render(template, tmp_path / "project").resolve()
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    monkeypatch.chdir(project)

    with get_possibly_temporary_instance_for_cli() as instance:
        assert not instance.telemetry_enabled
        assert not instance.nux_enabled
        artifacts, outputs = instance.storage_directory(), vars(instance.compute_log_manager)["_base_dir"]

    assert [project / "local" / "dagster"] * 2 == [Path(folder).resolve().parent for folder in (artifacts, outputs)]
    assert [] != list((project / "local" / "dagster").rglob("*.db"))
