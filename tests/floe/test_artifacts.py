"""Tests of the target folders of earlier dbt commands, which nothing else deletes."""

from __future__ import annotations

import os
import time
from pathlib import Path

from pipeline.floe.dbt.artifacts import KEPT_FOLDERS, KEPT_SECONDS, remove_old_folders


def make(folder: Path, seconds: float, log_seconds: float | None = None) -> Path:
    """Make a folder that was last changed some seconds ago, and its log."""
    folder.mkdir(parents=True)
    log = folder / "dbt.log"
    log.write_text("")
    for file, age in ((log, log_seconds or seconds), (folder, seconds)):
        os.utime(file, (time.time() - age,) * 2)
    return folder


def test_old_folders(tmp_path: Path) -> None:
    """The newest folders stay, and those in which dbt may still run, and everything that is not of dagster-dbt."""
    old = [make(tmp_path / f"dbt_models-{number:07x}-0123abc", 10 * KEPT_SECONDS + number) for number in range(20)]
    running = make(tmp_path / "dbt_models-fffffff-0123abc", 99 * KEPT_SECONDS, log_seconds=5)
    young = make(tmp_path / "dbt_models-eeeeeee-0123abc", KEPT_SECONDS / 2)
    other = make(tmp_path / "compiled", 99 * KEPT_SECONDS)
    current = make(tmp_path / "dbt_models-ddddddd-0123abc", 0)
    remove_old_folders(current)

    left = set(tmp_path.iterdir())
    assert {running, young, other, current} <= left
    assert KEPT_FOLDERS == len(left - {other})
    assert set(old[: KEPT_FOLDERS - 3]) <= left


def test_chosen_folder(tmp_path: Path) -> None:
    """Beside a folder that the owner has chosen, nothing is deleted."""
    for number in range(20):
        make(tmp_path / f"dbt_models-{number:07x}-0123abc", 10 * KEPT_SECONDS)
    remove_old_folders(make(tmp_path / "mine", 0))

    assert 21 == len(list(tmp_path.iterdir()))
