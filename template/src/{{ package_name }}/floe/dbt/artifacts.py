"""Facts about dbt's artifacts: `manifest.json` and `catalog.json`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any


def generated_at(artifact: Mapping[str, Any]) -> datetime | None:
    """Return when dbt wrote an artifact, in UTC, or None if it does not say."""
    try:
        return datetime.fromisoformat(artifact["metadata"]["generated_at"].replace("Z", "+00:00"))
    except (KeyError, TypeError, AttributeError, ValueError):
        return None
