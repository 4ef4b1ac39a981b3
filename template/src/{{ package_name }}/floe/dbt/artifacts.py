"""dbt's artifacts: when `manifest.json` and `catalog.json` were written, and the folders of earlier commands."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

# The name that dagster-dbt gives to the target folder of a command: step, run and a random part. Commands that take no
# selection, such as `dbt retry`, have only the last.
COMMAND_FOLDER = re.compile(r"(.+-[0-9a-f]{7}-)?[0-9a-f]{7}")
KEPT_FOLDERS = 10
KEPT_SECONDS = 3600.0


def generated_at(artifact: Mapping[str, Any]) -> datetime | None:
    """Return when dbt wrote an artifact, in UTC, or None if it does not say."""
    try:
        return datetime.fromisoformat(artifact["metadata"]["generated_at"].replace("Z", "+00:00"))
    except (KeyError, TypeError, AttributeError, ValueError):
        return None


def remove_old_folders(current: Path) -> None:
    """Delete the target folders of earlier commands beside `current`, except for the newest and those of the last hour.

    Nothing else deletes them. In a container, they often lie in memory.
    """
    if not COMMAND_FOLDER.fullmatch(current.name):  # the owner has chosen the folder
        return
    folders = [folder for folder in current.parent.iterdir() if COMMAND_FOLDER.fullmatch(folder.name)]
    ages = sorted((time.time() - _last_change(folder), folder) for folder in folders)
    for age, folder in ages[KEPT_FOLDERS:]:
        if age > KEPT_SECONDS and folder != current:
            shutil.rmtree(folder, ignore_errors=True)  # another run may do the same


def _last_change(folder: Path) -> float:
    """Return when a folder or its log, to which dbt writes as long as it runs, has changed."""
    changes = [0.0]
    for file in (folder, folder / "dbt.log"):
        with suppress(OSError):
            changes.append(file.stat().st_mtime)
    return max(changes)
