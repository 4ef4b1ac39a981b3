"""Watches the dbt commands of a step for OpenTelemetry: spans, and metrics when the step ends."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial

from ..delivery import Counts
from ..endpoints import open_metrics, open_spans
from ..events import Life, NodeFinished
from ..graph import ASSETS, Graph, Node, depends_on
from ..settings import Settings
from ..step import Step
from ..watcher import DbtCommand, Ending, Record
from .attributes import Attributes, manifest_attributes, statements, warehouse_attributes
from .metrics import Metrics
from .setup import resource_of
from .spans import Handoff, Tracing


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
        self._tracing = Tracing(step, resource, Handoff(self._delivery.put) if self._delivery else None)
        self._metrics = Metrics(resource)

    def environment(self) -> Mapping[str, str]:
        """Return the trace that dbt is to join."""
        return self._tracing.environment()

    def attach(self, command: DbtCommand) -> Record:
        """Return what starts and ends the command's spans."""
        return partial(self._record, command)

    def finish(self, ending: Ending) -> None:
        """End the step's span, and the run's."""
        run = ending.run
        self._tracing.end(
            ending.outcome,
            ending.message,
            run_outcome=run.outcome if run else None,
            run_message=run.message if run else None,
        )

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
        return counts

    def _record(self, command: DbtCommand, life: Life) -> None:
        if isinstance(life, NodeFinished):
            graph = command.graph()
            node = graph.node(life.unique_id)
            self._tracing.record(
                life,
                {
                    **warehouse_attributes(*command.warehouse()),
                    **manifest_attributes(node),
                    **_asset(command, node),
                },
                upstream=depends_on(node) if node["resource_type"] == "unit_test" else _read(graph, node),
                statements=statements(command.log.statements(life.unique_id)) if with_sql() else (),
            )
        else:
            self._tracing.record(life)
        self._metrics.record(life)


def _asset(command: DbtCommand, node: Node) -> Attributes:
    if node.get("resource_type") not in ASSETS:
        return {}
    return {"dagster.asset.key": command.invocation.dagster_dbt_translator.get_asset_key(node).to_user_string()}


def _read(graph: Graph, node: Node) -> list[str]:
    return [upstream["unique_id"] for upstream in graph.tables_upstream(node)]
