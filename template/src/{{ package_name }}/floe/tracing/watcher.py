"""The trace watcher: turns a step's dbt events into spans and metrics."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial

from ..dbt.manifest_graph import ASSETS, Graph, Node, bare_node, depends_on
from ..dbt.node_events import DbtEvent, NodeFinished, NodeStarted
from ..delivery.sender import Counts
from ..faults import Losses, detail
from ..settings import Settings
from ..step import Step
from ..watcher import DbtCommand, Ending, Record
from .attributes import Attributes, Statement, manifest_attributes, statements, warehouse_attributes
from .endpoint import open_metrics, open_spans, resource_of
from .metrics import Metrics
from .spans import Handoff, SpanBuilder


def with_sql() -> bool:
    """Say whether statements are asked for: their text holds whatever literals the SQL has."""
    return bool(os.environ.get("FLOE_TRACE_SQL"))


class TraceWatcher:
    """Makes a step's spans, and sends them if there is an endpoint; the ids are in the logs either way."""

    name = "traces"

    def __init__(self, step: Step, settings: Settings, lineage_counts: Callable[[], Counts | None]) -> None:
        self._settings = settings
        self._lineage_counts = lineage_counts
        self._delivery = open_spans(settings)
        resource = resource_of(settings)
        self._span_builder = SpanBuilder(step, resource, Handoff(self._delivery.put) if self._delivery else None)
        self._metrics = Metrics(resource)
        self._losses = Losses(self.name)

    def environment(self) -> Mapping[str, str]:
        """Return the trace that dbt is to join."""
        return self._span_builder.environment()

    def attach(self, command: DbtCommand) -> Record:
        """Return what starts and ends the command's spans."""
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

    def close(self, deadline: float) -> Mapping[str, Counts | None]:
        """Send spans and metrics until `deadline`; return what became of each."""
        channel = open_metrics(self._settings)
        if channel:
            if counts := self._lineage_counts():
                self._metrics.record_lineage(counts)
            if data := self._metrics.collect():
                channel.put(data)
        counts = self._delivery.close(deadline) if self._delivery else None
        self._losses.add_to(counts)
        return {self.name: counts, "metrics": channel.close(deadline) if channel else None}

    def _record(self, command: DbtCommand, event: DbtEvent) -> None:
        with self._losses.of(event.unique_id if isinstance(event, NodeFinished | NodeStarted) else "dbt"):
            if isinstance(event, NodeFinished):
                self._record_node(command, event)
            else:
                self._span_builder.record(event)
            detail(self._metrics.record, event)

    def _record_node(self, command: DbtCommand, event: NodeFinished) -> None:
        node = detail(_node, command, event.unique_id) or bare_node(event.unique_id)
        attributes = {
            **(detail(_warehouse, command) or {}),
            **(detail(manifest_attributes, node) or {}),
            **(detail(_asset, command, node) or {}),
        }
        upstream, ran = detail(_upstream, command, node), detail(_statements, command, event.unique_id)
        self._span_builder.record(event, attributes, upstream or [], ran or [])


def _node(command: DbtCommand, unique_id: str) -> Node:
    return command.graph().node(unique_id)


def _warehouse(command: DbtCommand) -> Attributes:
    return warehouse_attributes(*command.warehouse())


def _upstream(command: DbtCommand, node: Node) -> list[str]:
    return depends_on(node) if node["resource_type"] == "unit_test" else _read(command.graph(), node)


def _statements(command: DbtCommand, unique_id: str) -> list[Statement]:
    return list(statements(command.log.statements(unique_id))) if with_sql() else []


def _asset(command: DbtCommand, node: Node) -> Attributes:
    if node.get("resource_type") not in ASSETS:
        return {}
    return {"dagster.asset.key": command.invocation.dagster_dbt_translator.get_asset_key(node).to_user_string()}


def _read(graph: Graph, node: Node) -> list[str]:
    return [upstream["unique_id"] for upstream in graph.tables_upstream(node)]
