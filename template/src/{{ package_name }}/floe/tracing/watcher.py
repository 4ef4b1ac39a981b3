"""The watchers of traces and metrics: they turn a step's dbt events into spans and numbers."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from functools import partial

from opentelemetry.sdk.metrics.export import MetricsData
from opentelemetry.sdk.trace import ReadableSpan

from ..dbt.manifest_graph import ASSETS, Node, bare_node, depends_on
from ..dbt.node_events import DbtEvent, NodeFinished, NodeStarted
from ..delivery.counts import Counts
from ..delivery.sender import Delivery
from ..faults import Losses, detail
from ..settings import Settings
from ..step import Step
from ..watcher import DbtCommand, Ending, Record
from .attributes import Attributes, Statement, manifest_attributes, statements, warehouse_attributes
from .endpoint import open_metrics, open_spans, resource_of
from .metrics import Metrics
from .spans import Handoff, SpanBuilder
from .spool import SpooledSpan


class TraceWatcher:
    """Makes the spans of a step, and sends them."""

    name = "traces"

    def __init__(self, step: Step, settings: Settings, delivery: Delivery[ReadableSpan | SpooledSpan]) -> None:
        self._delivery = delivery
        self._span_builder = SpanBuilder(step, resource_of(settings), Handoff(delivery.put))
        self._losses = Losses(self.name)
        # The text of statements holds whatever literals the SQL has.
        self.wants_statements = bool(os.environ.get("FLOE_TRACE_SQL"))

    @classmethod
    def open(cls, step: Step, settings: Settings, _: logging.Logger) -> TraceWatcher | None:
        """Start the step's span; nothing where traces are off."""
        delivery = open_spans(settings)
        return cls(step, settings, delivery) if delivery else None

    def environment(self) -> Mapping[str, str]:
        """Return the trace that dbt is to join."""
        return self._span_builder.environment()

    def attach(self, command: DbtCommand) -> Record:
        """Return the function that starts and ends the command's spans."""
        return partial(self._record, command)

    def finish(self, ending: Ending) -> None:
        """End the step's span, and the run's."""
        run = ending.run
        with self._losses.of("run"):
            self._span_builder.end(
                ending.outcome,
                ending.message,
                run_outcome=run.outcome if run else None,
                run_message=run.message if run else None,
            )

    def close(self, deadline: float, _: Mapping[str, Counts]) -> Counts:
        """Send what is left until `deadline`; return what became of the spans."""
        counts = self._delivery.close(deadline)
        self._losses.add_to(counts)
        return counts

    def _record(self, command: DbtCommand, event: DbtEvent) -> None:
        with self._losses.of(event.unique_id if isinstance(event, NodeFinished | NodeStarted) else "dbt"):
            if isinstance(event, NodeFinished):
                self._record_node(command, event)
            else:
                self._span_builder.record(event)

    def _record_node(self, command: DbtCommand, event: NodeFinished) -> None:
        node = detail(_node, command, event.unique_id) or bare_node(event.unique_id)
        attributes = {
            **(detail(_warehouse, command) or {}),
            **(detail(manifest_attributes, node) or {}),
            **(detail(_asset, command, node) or {}),
        }
        upstream = detail(_upstream, command, node) or []
        ran = (detail(_statements, command, event.unique_id) or []) if self.wants_statements else []
        self._span_builder.record(event, attributes, upstream, ran)


class MetricsWatcher:
    """Counts what happened in a step, and sends the numbers once, when it ends."""

    name = "metrics"
    wants_statements = False

    def __init__(self, settings: Settings, delivery: Delivery[MetricsData]) -> None:
        self._delivery = delivery
        self._metrics = Metrics(resource_of(settings))
        self._losses = Losses(self.name)

    @classmethod
    def open(cls, _: Step, settings: Settings, __: logging.Logger) -> MetricsWatcher | None:
        """Start at zero; nothing where metrics are off."""
        delivery = open_metrics(settings)
        return cls(settings, delivery) if delivery else None

    def environment(self) -> Mapping[str, str]:
        """Return nothing: dbt counts nothing of its own."""
        return {}

    def attach(self, _: DbtCommand) -> Record:
        """Return the function that counts the command's events."""
        return self._record

    def finish(self, ending: Ending) -> None:
        """Count nothing: a step has no number of its own."""

    def close(self, deadline: float, closed: Mapping[str, Counts]) -> Counts:
        """Send the numbers, those of lineage among them, until `deadline`; return what became of them."""
        with self._losses.of("metrics"):
            if lineage := closed.get("lineage"):
                detail(self._metrics.record_lineage, lineage)
            if data := detail(self._metrics.collect):
                self._delivery.put(data)
        counts = self._delivery.close(deadline)
        self._losses.add_to(counts)
        return counts

    def _record(self, event: DbtEvent) -> None:
        with self._losses.of(event.unique_id if isinstance(event, NodeFinished | NodeStarted) else "dbt"):
            detail(self._metrics.record, event)


def _node(command: DbtCommand, unique_id: str) -> Node:
    return command.graph.node(unique_id)


def _warehouse(command: DbtCommand) -> Attributes:
    return warehouse_attributes(command.warehouse, command.connection)


def _upstream(command: DbtCommand, node: Node) -> list[str]:
    if node["resource_type"] == "unit_test":
        return depends_on(node)
    return [upstream["unique_id"] for upstream in command.graph.tables_upstream(node)]


def _statements(command: DbtCommand, unique_id: str) -> list[Statement]:
    return list(statements(command.log.statements(unique_id)))


def _asset(command: DbtCommand, node: Node) -> Attributes:
    if node.get("resource_type") not in ASSETS:
        return {}
    return {"dagster.asset.key": command.invocation.dagster_dbt_translator.get_asset_key(node).to_user_string()}
