"""The watchers of traces and metrics, which turn a step's dbt events into spans and counts."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from functools import partial

from opentelemetry.sdk.metrics.export import MetricsData
from opentelemetry.sdk.trace import ReadableSpan

from ..assets.catalog import StepAssets
from ..dbt.manifest_graph import ASSETS, Node, bare_node, depends_on
from ..dbt.node_events import DbtEvent, NodeFinished, NodeStarted, Outcome
from ..delivery.budget import is_spent
from ..delivery.counts import Counts
from ..delivery.diagnosis import explain
from ..delivery.sender import Delivery
from ..faults import Losses, detail
from ..settings import Settings
from ..step import Step
from ..watcher import DbtCommand, Ending, Record, Scope
from .attributes import Attributes, Statement, manifest_attributes, statements, warehouse_attributes
from .endpoint import open_metrics, open_spans, otlp_hints, resource_of
from .metrics import Metrics
from .provider import share_provider
from .spans import Handoff, SpanBuilder
from .spool import SpooledSpan


class TraceWatcher:
    """A watcher that makes and sends the spans of a step."""

    name = "traces"

    def __init__(self, step: Step, settings: Settings, delivery: Delivery[ReadableSpan | SpooledSpan]) -> None:
        self._settings = settings
        self._delivery = delivery
        self._span_builder = SpanBuilder(step, resource_of(settings), Handoff(delivery.put), prices=settings.prices)
        self._losses = Losses(self.name)
        # Off by default, because the text of statements contains the literals of the SQL.
        self.wants_statements = bool(os.environ.get("FLOE_TRACE_SQL"))

    @classmethod
    def open(cls, step: Step, settings: Settings, _: logging.Logger) -> TraceWatcher | None:
        """Start the step's span; return None if traces are off."""
        delivery = open_spans(settings, replays=not is_spent(settings.state_dir, step.run_id))
        return cls(step, settings, delivery) if delivery else None

    def environment(self) -> Mapping[str, str]:
        """Return the variables of the trace that dbt joins."""
        return self._span_builder.environment()

    def begin(self, assets: StepAssets) -> Scope:
        """Describe the step's span, and that of its asset if it has one; return what makes it current."""
        share_provider(self._settings, self._span_builder)
        return self._span_builder.begin(assets)

    def attach(self, command: DbtCommand) -> Record:
        """Return the function that starts and ends the command's spans."""
        return partial(self._record, command)

    def finish(self, ending: Ending) -> None:
        """End the step's span, and also the run's if this step ends the run."""
        run = ending.run
        with self._losses.of("run"):
            self._span_builder.end(
                ending.outcome,
                ending.message,
                run_outcome=run.outcome if run else None,
                run_message=run.message if run else None,
                error=ending.error_type,
                run_error=run.error_type if run else None,
                results=ending.results,
            )

    def close(self, deadline: float, _: Mapping[str, Counts]) -> Counts:
        """Send the remaining spans until `deadline`; return the counts of all spans."""
        counts = self._delivery.close(deadline)
        counts.last_error = explain(counts.last_error, otlp_hints(self.name))
        self._losses.add_to(counts)
        return counts

    def _record(self, command: DbtCommand, event: DbtEvent) -> None:
        with self._losses.of(_subject(event)):
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
        executed = (detail(_statements, command, event) or []) if self.wants_statements else []
        self._span_builder.record(event, attributes, upstream, executed)


class MetricsWatcher:
    """A watcher that counts the events of a step and sends the metrics once, at its end."""

    name = "metrics"
    wants_statements = False

    def __init__(self, settings: Settings, delivery: Delivery[MetricsData]) -> None:
        self._delivery = delivery
        self._metrics = Metrics(resource_of(settings))
        self._losses = Losses(self.name)

    @classmethod
    def open(cls, _: Step, settings: Settings, __: logging.Logger) -> MetricsWatcher | None:
        """Return a watcher that starts at zero, or None if metrics are off."""
        delivery = open_metrics(settings)
        return cls(settings, delivery) if delivery else None

    def environment(self) -> Mapping[str, str]:
        """Return no variables, because dbt sends no metrics of its own."""
        return {}

    def begin(self, _: StepAssets) -> None:
        """Do nothing, because there is no metric of steps."""

    def attach(self, _: DbtCommand) -> Record:
        """Return the function that counts the command's events."""
        return self._record

    def finish(self, ending: Ending) -> None:
        """Do nothing, because there is no metric of steps."""

    def close(self, deadline: float, closed: Mapping[str, Counts]) -> Counts:
        """Send the metrics, including those of lineage, until `deadline`; return their counts."""
        with self._losses.of("metrics"):
            if lineage := closed.get("lineage"):
                detail(self._metrics.record_lineage, lineage)
            if data := detail(self._metrics.collect):
                self._delivery.put(data)
        counts = self._delivery.close(deadline)
        counts.last_error = explain(counts.last_error, otlp_hints(self.name))
        self._losses.add_to(counts)
        return counts

    def _record(self, event: DbtEvent) -> None:
        with self._losses.of(_subject(event)):
            detail(self._metrics.record, event)


def _subject(event: DbtEvent) -> str:
    """Return the name of the span or the metric that an event belongs to."""
    return event.unique_id if isinstance(event, NodeFinished | NodeStarted) else "dbt"


def _node(command: DbtCommand, unique_id: str) -> Node:
    return command.graph.node(unique_id)


def _warehouse(command: DbtCommand) -> Attributes:
    return warehouse_attributes(command.warehouse, command.connection)


def _upstream(command: DbtCommand, node: Node) -> list[str]:
    if node["resource_type"] == "unit_test":
        return depends_on(node)
    return [upstream["unique_id"] for upstream in command.graph.tables_upstream(node)]


def _statements(command: DbtCommand, event: NodeFinished) -> list[Statement]:
    failed_at = event.at if event.outcome is Outcome.FAIL else None
    return list(statements(command.log.statements(event.unique_id), failed_at))


def _asset(command: DbtCommand, node: Node) -> Attributes:
    if node.get("resource_type") not in ASSETS:
        return {}
    return {"dagster.asset.key": command.invocation.dagster_dbt_translator.get_asset_key(node).to_user_string()}
