"""The results of a step that Dagster has recorded: assets that it has materialized, and checks that it has evaluated.

In: an event of Dagster's log. Out: plain data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import dagster as dg


@dataclass(frozen=True, slots=True, kw_only=True)
class Materialized:
    """An asset that the step has materialized, with its metadata as plain values."""

    key: dg.AssetKey
    at: datetime
    partition: str | None
    metadata: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """An asset check that the step has evaluated."""

    key: dg.AssetCheckKey
    at: datetime
    passed: bool
    severity: str
    description: str | None


Result = Materialized | Checked


def read_result(event: dg.DagsterEvent, at: datetime) -> Result | None:
    """Return the result that an event of the step reports, if it does; `at` is the event's time."""
    data: Any = event.event_specific_data
    if event.event_type is dg.DagsterEventType.ASSET_MATERIALIZATION:
        asset = data.materialization
        return Materialized(key=asset.asset_key, at=at, partition=asset.partition, metadata=plain(asset.metadata))
    if event.event_type is dg.DagsterEventType.ASSET_CHECK_EVALUATION:
        return Checked(
            key=dg.AssetCheckKey(data.asset_key, data.check_name),
            at=at,
            passed=bool(data.passed),
            severity=str(data.severity.value).lower(),
            description=data.description,
        )
    return None


def plain(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return metadata with the content of Dagster's metadata values, such as a `TableSchema`.

    A path stays Dagster's `PathMetadataValue`, because only that tells it from other text.
    """
    return {
        name: value if isinstance(value, dg.PathMetadataValue) else getattr(value, "value", value)
        for name, value in metadata.items()
    }
