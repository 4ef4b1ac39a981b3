"""The ids of traces and spans, derived from Dagster's and dbt's own ids.

All processes of a run, their log lines and their spans compute the same ids without exchanging them, whether or not
anything is exported. A trace id is the Dagster run id, which is a UUID.
"""

from __future__ import annotations

from hashlib import sha256
from uuid import UUID


def trace_id(run_id: str) -> int:
    """Return the trace id of a Dagster run, 128 bits."""
    try:
        return UUID(run_id).int
    except ValueError:  # Dagster's contexts for unit tests use "EPHEMERAL"
        return int(sha256(run_id.encode()).hexdigest()[:32], 16)


def run_span_id(run_id: str) -> int:
    """Return the id of a Dagster run's span, 64 bits."""
    return _span_id("run", run_id)


def step_span_id(run_id: str, step_key: str, attempt: int) -> int:
    """Return the id of the span of one attempt at a step, 64 bits."""
    return _span_id("step", run_id, step_key, str(attempt))


def node_span_id(invocation_id: str, unique_id: str) -> int:
    """Return the id of a node's span within a dbt command, 64 bits."""
    return _span_id("node", invocation_id, unique_id)


def _span_id(*names: str) -> int:
    # Zero is not a valid id.
    return int.from_bytes(sha256("\0".join(names).encode()).digest()[:8], "big") or 1
