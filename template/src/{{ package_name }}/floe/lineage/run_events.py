"""The life of a node -> OpenLineage run events (https://openlineage.io/spec/2-0-2/OpenLineage.json).

One run for the Dagster run, one for the dbt command, one for each node that it executes: exactly one START and one
terminal event each. A node's run id is derived from the command and the node, so that sending an event twice changes
nothing at the receiver. Inputs stand in both events, outputs only where the node has written them: what fails, is
skipped or is stopped claims none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from uuid import UUID, uuid5

from openlineage.client.event_v2 import Job, OutputDataset, Run, RunEvent, RunState

from ..events import CommandFinished, CommandStarted, Life, NodeFinished, NodeStarted, Outcome
from ..graph import CHECKS, Graph
from .datasets import Datasets
from .jobs import Jobs, job_type
from .parents import Command, DagsterRun
from .run_facets import PRODUCER, RunFacets

TERMINAL = {
    Outcome.SUCCESS: RunState.COMPLETE,
    Outcome.WARN: RunState.COMPLETE,
    Outcome.FAIL: RunState.FAIL,
    Outcome.SKIPPED: RunState.ABORT,
    Outcome.INTERRUPTED: RunState.ABORT,
}


class Lineage:
    """Turn the lives of one dbt command into run events."""

    def __init__(
        self,
        dagster_run: DagsterRun,
        command: Command,
        graph: Callable[[], Graph],
        datasets: Callable[[], Datasets],
        jobs: Callable[[], Jobs],
    ) -> None:
        """Take the names above the nodes, and what tells of nodes: asked for when the first of them starts."""
        self._run = dagster_run.run
        self._command_run = replace(dagster_run.run, name=f"dbt.{command.project_name}", run_id="")
        self._full_refresh = command.full_refresh
        self._facets = RunFacets(dagster_run, command)
        self._graph = graph
        self._datasets = datasets
        self._jobs = jobs
        self._bad: dict[str, str] = {}

    def run_started(self, at: datetime) -> RunEvent:
        """Return the start of the Dagster run."""
        return self._run_event(RunState.START, at)

    def run_finished(self, at: datetime, outcome: Outcome, message: str | None) -> RunEvent:
        """Return the end of the Dagster run."""
        return self._run_event(TERMINAL[outcome], at, message)

    def events(self, life: Life) -> Iterator[RunEvent]:
        """Yield the run events that `life` is: one, but for a node that ends without having started."""
        match life:
            case CommandStarted():
                self._command_run = replace(self._command_run, run_id=life.invocation_id)
                self._facets.command_started(life, self._command_run)
                yield self._command_event(RunState.START, life.at)
            case CommandFinished():
                yield self._command_event(TERMINAL[life.outcome], life.at, life.message)
            case NodeStarted():
                yield self._started(life)
            case NodeFinished():
                if life.started is None:
                    # The specification wants a START of each run; a skipped node has both at once.
                    yield self._started(life)
                yield self._finished(life)

    def _run_event(self, state: RunState, at: datetime, message: str | None = None) -> RunEvent:
        run = Run(self._run.run_id, self._facets.dagster_run(message))
        job = Job(self._run.namespace, self._run.name, {"jobType": job_type("JOB", "DAGSTER")})
        return RunEvent(eventTime=at.isoformat(), eventType=state, run=run, job=job, producer=PRODUCER)

    def _command_event(self, state: RunState, at: datetime, message: str | None = None) -> RunEvent:
        run = Run(self._command_run.run_id, self._facets.command(message))
        job = Job(self._command_run.namespace, self._command_run.name, {"jobType": job_type("JOB")})
        return RunEvent(eventTime=at.isoformat(), eventType=state, run=run, job=job, producer=PRODUCER)

    def _started(self, life: NodeStarted | NodeFinished) -> RunEvent:
        node = self._graph().node(life.unique_id)
        return RunEvent(
            eventTime=life.at.isoformat(),
            eventType=RunState.START,
            run=Run(node_run_id(life.invocation_id, life.unique_id), self._facets.node(node)),
            job=Job(self._command_run.namespace, life.unique_id, self._jobs().facets(node)),
            inputs=self._datasets().inputs(node),
            producer=PRODUCER,
        )

    def _finished(self, life: NodeFinished) -> RunEvent:
        graph, datasets = self._graph(), self._datasets()
        node = graph.node(life.unique_id)
        state = TERMINAL[life.outcome]
        run_id = node_run_id(life.invocation_id, life.unique_id)
        outputs: list[OutputDataset] = []
        query = None
        if state is RunState.COMPLETE:
            outputs = datasets.outputs(node, life, run_id, full_refresh=self._full_refresh)
            query = datasets.query(node) if outputs else None
        elif life.resource_type not in CHECKS or life.outcome is Outcome.FAIL:
            self._bad[life.unique_id] = life.outcome
        if life.outcome is Outcome.SKIPPED and not life.message:
            life = replace(life, message=self._reason(life.unique_id))
        facets = self._facets.node(node, life, graph, datasets.namespace, query, datasets.left_out(node))
        return RunEvent(
            eventTime=life.at.isoformat(),
            eventType=state,
            run=Run(run_id, facets),
            job=Job(self._command_run.namespace, life.unique_id, self._jobs().facets(node)),
            inputs=datasets.inputs(node, life),
            outputs=outputs,
            producer=PRODUCER,
        )

    def _reason(self, unique_id: str) -> str:
        blockers = self._graph().blockers(self._graph().node(unique_id), self._bad)
        why = ", ".join(f"{each} {'was skipped' if self._bad[each] == 'skipped' else 'failed'}" for each in blockers)
        return f"dbt skipped this node: {why}" if why else "dbt skipped this node"


def node_run_id(invocation_id: str, unique_id: str) -> str:
    """Return the run id of a node within a dbt command."""
    return str(uuid5(UUID(invocation_id), unique_id))
