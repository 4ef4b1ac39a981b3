"""The run events of dbt commands and nodes.

There is one run for the Dagster run, one for the dbt command, and one per node that it executes, each with exactly one
START and one terminal event. A node's run id is derived from the command and the node, so that sending an event twice
changes nothing at the receiver. Both events have inputs. Only the terminal event of a node that has written its table
has outputs: a node that failed, was skipped or was stopped has none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Protocol
from uuid import UUID, uuid5

from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState
from openlineage.client.facet_v2 import JobFacet, RunFacet

from ..dbt.manifest_graph import HOOK, TEST_TYPES, Graph, Node, bare_node
from ..dbt.node_events import CommandFinished, CommandStarted, DbtEvent, NodeFinished, NodeStarted, Outcome
from ..faults import Losses, detail, lost_details
from .columns import QueryLineage
from .datasets import DatasetBuilder
from .jobs import JobFacets, command_job_name, job_type, node_job_name
from .parents import CommandInfo, RunContext
from .run_facets import RunFacets, incomplete

TERMINAL_STATES = {
    Outcome.SUCCESS: RunState.COMPLETE,
    Outcome.WARN: RunState.COMPLETE,
    Outcome.FAIL: RunState.FAIL,
    Outcome.SKIPPED: RunState.ABORT,
    Outcome.INTERRUPTED: RunState.ABORT,
}
SKIPPED = "dbt skipped this node"


class Sources(Protocol):
    """The sources of node events, read when the first node starts; each may raise."""

    @property
    def graph(self) -> Graph:
        """Return the graph of dbt's manifest."""

    @property
    def datasets(self) -> DatasetBuilder:
        """Return the builder of datasets."""

    @property
    def jobs(self) -> JobFacets:
        """Return the facets of jobs."""


class RunEventBuilder:
    """A builder that turns the events of one dbt command into run events."""

    def __init__(
        self,
        dagster_run: RunContext,
        command: CommandInfo,
        sources: Sources | None,
        losses: Losses | None = None,
    ) -> None:
        """Take the names above the nodes.

        Args:
            dagster_run: The Dagster run.
            command: The dbt command.
            sources: The sources of node events; nothing where dbt was never started.
            losses: Counts the nodes whose events lack details because of a fault of ours.
        """
        self._run = dagster_run.run
        self._producer = dagster_run.producer
        self._command_run = replace(dagster_run.run, name=command_job_name(command.project_name), run_id="")
        self._full_refresh = command.full_refresh
        self._facets = RunFacets(dagster_run, command)
        self._sources = sources
        self._losses = losses or Losses("lineage")
        self._bad: dict[str, str] = {}

    def run_started(self, at: datetime) -> RunEvent:
        """Return the start of the Dagster run."""
        return self._run_event(RunState.START, at)

    def run_finished(self, at: datetime, outcome: Outcome, message: str | None) -> RunEvent:
        """Return the end of the Dagster run."""
        return self._run_event(TERMINAL_STATES[outcome], at, message)

    def events(self, event: DbtEvent) -> Iterator[RunEvent]:
        """Yield the run events of `event`: usually one, none for a hook, two for a node that ends without a start."""
        match event:
            case NodeStarted() | NodeFinished() if event.resource_type == HOOK:
                return  # a hook is SQL of the project that belongs to no table
            case CommandStarted():
                self._command_run = replace(self._command_run, run_id=event.invocation_id)
                with self._losses.of(self._command_run.name):
                    detail(self._facets.command_started, event, self._command_run)
                yield self._command_event(RunState.START, event.at)
            case CommandFinished():
                yield self._command_event(TERMINAL_STATES[event.outcome], event.at, event.message)
            case NodeStarted():
                with self._losses.of(event.unique_id):
                    detail(self._building, event.unique_id)
                yield self._started(event)
            case NodeFinished():
                if event.started is None:
                    # The specification requires a START for every run; a skipped node gets both events at once.
                    yield self._started(event)
                yield self._finished(event)

    def _run_event(self, state: RunState, at: datetime, message: str | None = None) -> RunEvent:
        with self._losses.of(self._run.name):
            run = Run(self._run.run_id, detail(self._facets.dagster_run, message) or {})
        job = Job(self._run.namespace, self._run.name, {"jobType": job_type("JOB", "DAGSTER")})
        return RunEvent(eventTime=at.isoformat(), eventType=state, run=run, job=job, producer=self._producer)

    def _command_event(self, state: RunState, at: datetime, message: str | None = None) -> RunEvent:
        with self._losses.of(self._command_run.name):
            run = Run(self._command_run.run_id, detail(self._facets.command, message) or {})
        job = Job(self._command_run.namespace, self._command_run.name, {"jobType": job_type("JOB")})
        return RunEvent(eventTime=at.isoformat(), eventType=state, run=run, job=job, producer=self._producer)

    def _started(self, event: NodeStarted | NodeFinished) -> RunEvent:
        with self._losses.of(event.unique_id):
            before = lost_details()
            node = detail(self._node, event.unique_id) or bare_node(event.unique_id)
            facets = detail(self._facets.started, node) or self._facets.minimal()
            return self._node_event(RunState.START, event, node, facets, detail(self._inputs, node), (), before)

    def _finished(self, event: NodeFinished) -> RunEvent:
        state = TERMINAL_STATES[event.outcome]
        with self._losses.of(event.unique_id):
            before = lost_details()
            node = detail(self._node, event.unique_id) or bare_node(event.unique_id)
            detail(self._ended, node, event)
            outputs: list[OutputDataset] = []
            query = None
            if state is RunState.COMPLETE:
                outputs = detail(self._outputs, node, event) or []
                query = detail(self._query, node) if outputs else None
                if query is None and lost_details() > before:
                    query = QueryLineage(problem="lost to an internal error")
            elif event.resource_type not in TEST_TYPES or event.outcome is Outcome.FAIL:
                self._bad[event.unique_id] = event.outcome
            if event.outcome is Outcome.SKIPPED and not event.message:
                event = replace(event, message=detail(self._reason, event.unique_id) or SKIPPED)
            message = None if state is RunState.COMPLETE else event.message or event.status
            facets = detail(self._end_facets, node, event, query) or self._facets.minimal(message)
            return self._node_event(state, event, node, facets, detail(self._inputs, node, event), outputs, before)

    def _node_event(
        self,
        state: RunState,
        event: NodeStarted | NodeFinished,
        node: Node,
        facets: dict[str, RunFacet],
        inputs: list[InputDataset] | None,
        outputs: Sequence[OutputDataset],
        lost_before: int,
    ) -> RunEvent:
        job_facets = detail(self._job_facets, node) or {}
        if lost := lost_details() - lost_before:
            facets |= detail(incomplete, facets, lost) or {}
        return RunEvent(
            eventTime=event.at.isoformat(),
            eventType=state,
            run=Run(node_run_id(event.invocation_id, event.unique_id), facets),
            job=Job(self._command_run.namespace, node_job_name(event.unique_id), job_facets),
            inputs=inputs or [],
            outputs=list(outputs),
            producer=self._producer,
        )

    @property
    def _known(self) -> Sources:
        if self._sources is None:
            raise LookupError("dbt was not started")
        return self._sources

    def _graph(self) -> Graph:
        return self._known.graph

    def _datasets(self) -> DatasetBuilder:
        return self._known.datasets

    def _node(self, unique_id: str) -> Node:
        return self._graph().node(unique_id)

    def _building(self, unique_id: str) -> None:
        self._datasets().started(self._node(unique_id))

    def _inputs(self, node: Node, event: NodeFinished | None = None) -> list[InputDataset]:
        return self._datasets().inputs(node, event)

    def _ended(self, node: Node, event: NodeFinished) -> None:
        self._datasets().ended(node, event, full_refresh=self._full_refresh)

    def _outputs(self, node: Node, event: NodeFinished) -> list[OutputDataset]:
        run_id = node_run_id(event.invocation_id, event.unique_id)
        return self._datasets().outputs(node, event, run_id, full_refresh=self._full_refresh)

    def _query(self, node: Node) -> QueryLineage | None:
        return self._datasets().query(node)

    def _job_facets(self, node: Node) -> dict[str, JobFacet]:
        return self._known.jobs.facets(node)

    def _end_facets(self, node: Node, event: NodeFinished, query: QueryLineage | None) -> dict[str, RunFacet]:
        datasets = detail(self._datasets)
        source, left_out = "", None
        if datasets:
            is_written = event.outcome is Outcome.SUCCESS
            source, left_out = datasets.namespace, detail(datasets.left_out, node, is_written=is_written)
        return self._facets.finished(node, event, detail(self._graph), source, query, left_out or ())

    def _reason(self, unique_id: str) -> str:
        blockers = self._graph().blockers(self._graph().node(unique_id), self._bad)
        why = ", ".join(
            f"{blocker} {'was skipped' if self._bad[blocker] == 'skipped' else 'failed'}" for blocker in blockers
        )
        return f"{SKIPPED}: {why}" if why else SKIPPED


def lean(event: RunEvent) -> RunEvent:
    """Return an event reduced to its run, its job, its parent and its error message."""
    facets = event.run.facets or {}
    run = Run(event.run.runId, {name: facets[name] for name in ("parent", "errorMessage") if name in facets})
    job = Job(event.job.namespace, event.job.name)
    return RunEvent(eventTime=event.eventTime, eventType=event.eventType, run=run, job=job, producer=event.producer)


def node_run_id(invocation_id: str, unique_id: str) -> str:
    """Return the run id of a node within a dbt command."""
    return str(uuid5(UUID(invocation_id), unique_id))
