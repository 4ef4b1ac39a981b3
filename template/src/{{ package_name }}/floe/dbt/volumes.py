"""The volume of a node's execution and its cost, from what the adapter reports, so that no query is needed.

What there is depends on the adapter: BigQuery reports bytes and slot time, Snowflake and Databricks the id of the
query, most others only the number of rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

COUNTS = ("rows_affected", "bytes_processed", "bytes_billed", "slot_ms")
# What a price in settings.toml is of -> the count that it applies to, and how many of these make up one unit.
UNITS = {"tebibyte": ("bytes_billed", 2**40), "slot_hour": ("slot_ms", 3_600_000)}


def volumes(response: Mapping[str, Any], prices: Mapping[str, float]) -> dict[str, int | float | str]:
    """Return the known counts of an adapter's response, the id of its query, and its cost if its price is known.

    Args:
        response: `adapter_response` in dbt's results.
        prices: Prices by unit; 0 means that nothing is paid for this unit.
    """
    values: dict[str, int | float | str] = {
        name: number for name in COUNTS if (number := count(response.get(name))) is not None
    }
    if query_id := response.get("query_id") or response.get("job_id"):
        values["query_id"] = str(query_id)
    cost = [
        float(values[name]) / size * prices[unit]
        for unit, (name, size) in UNITS.items()
        if prices.get(unit) and name in values
    ]
    return {**values, "cost": sum(cost)} if cost else values


def count(number: object) -> int | None:
    """Return dbt's number as an integer: its debug log has only fractions, and engines report -1 if not counted."""
    return int(number) if isinstance(number, int | float) and number >= 0 else None
