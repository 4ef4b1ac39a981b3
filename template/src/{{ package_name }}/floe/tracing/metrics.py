"""The metrics of a step, sent once when it ends.

    dbt.node.duration          histogram, s    run time of nodes, by resource type and status
    dbt.node.rows              counter         rows that the warehouse reports as written
    dbt.command.count          counter         dbt commands, by outcome
    floe.lineage.events        counter         lineage events, by what happened to them: sent, spooled, dropped …

A process lives only as long as its step, so its counts are deltas, which a collector adds up.
"""

from __future__ import annotations

from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader, MetricsData
from opentelemetry.sdk.resources import Resource

from ..dbt.manifest_graph import TEST_TYPES
from ..dbt.node_events import CommandFinished, DbtEvent, NodeFinished
from ..dbt.volumes import count
from ..delivery.counts import Counts

# The convention for durations in seconds, extended to a day: https://opentelemetry.io/docs/specs/semconv/database/database-metrics/
DURATION_BOUNDARIES = (0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 14400, 86400)
DELTA: dict[type, AggregationTemporality] = {
    Counter: AggregationTemporality.DELTA,
    Histogram: AggregationTemporality.DELTA,
}


class Metrics:
    """The metrics of one step."""

    def __init__(self, resource: Resource) -> None:
        self._reader = InMemoryMetricReader(preferred_temporality=DELTA)
        meter = MeterProvider([self._reader], resource=resource, shutdown_on_exit=False).get_meter("floe")
        self._duration = meter.create_histogram(
            "dbt.node.duration", unit="s", explicit_bucket_boundaries_advisory=DURATION_BOUNDARIES
        )
        self._rows = meter.create_counter("dbt.node.rows", unit="{row}")
        self._commands = meter.create_counter("dbt.command.count", unit="{command}")
        self._lineage = meter.create_counter("floe.lineage.events", unit="{event}")

    def record(self, event: DbtEvent) -> None:
        """Count the end of a command or a node."""
        match event:
            case CommandFinished():
                self._commands.add(1, {"dbt.status": event.outcome.value})
            case NodeFinished():
                kind = {"dbt.resource_type": event.resource_type, "dbt.status": event.status}
                seconds = (event.at - event.started.at).total_seconds() if event.started else 0.0
                self._duration.record(max(0.0, seconds), kind)
                rows = count(event.response.get("rows_affected"))
                if rows and event.resource_type not in TEST_TYPES:
                    self._rows.add(rows, {"dbt.resource_type": event.resource_type})

    def record_lineage(self, counts: Counts) -> None:
        """Count the lineage events by what happened to them."""
        for name in ("sent", "replayed", "spooled", "dropped"):
            if number := getattr(counts, name):
                self._lineage.add(number, {"floe.delivery": name})

    def collect(self) -> MetricsData | None:
        """Return the metrics of the step."""
        return self._reader.get_metrics_data()
