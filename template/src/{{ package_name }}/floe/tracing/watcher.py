"""Watches a dbt command for OpenTelemetry: spans, and metrics when it ends."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

import dagster as dg

from ..delivery import Counts
from ..endpoints import open_metrics, open_spans
from ..events import Life, NodeFinished, NodeStarted
from ..faults import Losses, detail
from ..graph import ASSETS, Graph, Node, bare_node, depends_on
from ..settings import Settings
from ..watcher import DbtCommand, Ending
from .attributes import Attributes, Statement, manifest_attributes, statements, warehouse_attributes
from .metrics import Metrics
from .setup import resource_of, step_of
from .spans import Handoff, Tracing


def with_sql() -> bool:
    """Say whether statements are asked for: their text holds whatever literals the SQL has."""
    return bool(os.environ.get("FLOE_TRACE_SQL"))


class TraceWatcher:
    """Makes a run's spans, and sends them if there is an endpoint; the ids are in the logs either way."""

    name = "traces"

    def __init__(
        self, context: dg.AssetExecutionContext, settings: Settings, lineage_counts: Callable[[], Counts | None]
    ) -> None:
        self._context = context
        self._settings = settings
        self._lineage_counts = lineage_counts
        self._delivery = open_spans(settings)
        resource = resource_of(settings)
        self._tracing = Tracing(step_of(context), resource, Handoff(self._delivery.put) if self._delivery else None)
        self._metrics = Metrics(resource)
        self._losses = Losses(self.name)
        self._command: DbtCommand | None = None

    def environment(self) -> Mapping[str, str]:
        """Return the trace that dbt is to join."""
        return self._tracing.environment()

    def attach(self, command: DbtCommand) -> None:
        """Take the command."""
        self._command = command

    def record(self, life: Life) -> None:
        """Start or end the span that `life` tells of."""
        with self._losses.of(life.unique_id if isinstance(life, NodeFinished | NodeStarted) else "dbt"):
            if isinstance(life, NodeFinished) and self._command:
                self._record_node(life, self._command)
            else:
                self._tracing.record(life)
            detail(self._metrics.record, life)

    def _record_node(self, life: NodeFinished, command: DbtCommand) -> None:
        node = detail(self._node, life.unique_id, command) or bare_node(life.unique_id)
        attributes = {
            **(detail(self._warehouse, command) or {}),
            **(detail(manifest_attributes, node) or {}),
            **(detail(self._asset, node) or {}),
        }
        upstream, ran = detail(self._upstream, node, command), detail(self._statements, life.unique_id, command)
        self._tracing.record(life, attributes, upstream or [], ran or [])

    def finish(self, ending: Ending) -> None:
        """End the step's span, and the run's."""
        with self._losses.of("run"):
            self._tracing.end(ending.outcome, ending.message, run_outcome=ending.run_outcome)

    def close(self, deadline: float) -> Counts | None:
        """Send spans and metrics until `deadline`."""
        channel = open_metrics(self._settings)
        if channel:
            if told := self._lineage_counts():
                self._metrics.record_lineage(told)
            if data := self._metrics.collect():
                channel.put(data)
        counts = self._delivery.close(deadline) if self._delivery else None
        if channel:
            numbers = channel.close(deadline)
            if counts is None or numbers.is_bad:
                counts = counts or Counts()
                counts.dropped += numbers.dropped
                counts.last_error = numbers.last_error or counts.last_error
        self._losses.add_to(counts)
        return counts

    def _node(self, unique_id: str, command: DbtCommand) -> Node:
        return command.graph().node(unique_id)

    def _warehouse(self, command: DbtCommand) -> Attributes:
        return warehouse_attributes(*command.warehouse())

    def _upstream(self, node: Node, command: DbtCommand) -> list[str]:
        return depends_on(node) if node["resource_type"] == "unit_test" else _read(command.graph(), node)

    def _statements(self, unique_id: str, command: DbtCommand) -> list[Statement]:
        return list(statements(command.log.statements(unique_id))) if with_sql() else []

    def _asset(self, node: Node) -> Attributes:
        invocation = self._command.invocation if self._command else None
        if invocation is None or node.get("resource_type") not in ASSETS:
            return {}
        return {"dagster.asset.key": invocation.dagster_dbt_translator.get_asset_key(node).to_user_string()}


def _read(graph: Graph, node: Node) -> list[str]:
    return [upstream["unique_id"] for upstream in graph.tables_upstream(node)]
