"""A sampler for trace ids that are UUIDs.

The specification's ratio samplers compare the lower half of the trace id with the ratio, as if all its bits were random
(https://opentelemetry.io/docs/specs/otel/trace/sdk/#traceidratiobased). A UUID of version 4 has two fixed bits there.
Used unchanged, every ratio below 0.5 would keep no run, and every ratio above 0.75 would keep all.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import Sampler, SamplingResult
from opentelemetry.trace import Link, SpanKind, TraceState
from opentelemetry.util.types import Attributes


class HashedIdSampler(Sampler):
    """A sampler that applies another sampler to a hash of the trace id."""

    def __init__(self, sampler: Sampler) -> None:
        """Use `sampler` for the decisions."""
        self._sampler = sampler

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """Return the decision for a span, which is the same in every process."""
        hashed = int.from_bytes(sha256(trace_id.to_bytes(16, "big")).digest()[:16], "big")
        return self._sampler.should_sample(parent_context, hashed, name, kind, attributes, links, trace_state)

    def get_description(self) -> str:
        """Return the names of this sampler and of the one that decides."""
        return f"HashedIdSampler({self._sampler.get_description()})"
