"""The life of a node -> OpenLineage run events (https://openlineage.io/spec/2-0-2/OpenLineage.json).

Two levels below the Dagster run: one run for the dbt command, one for each node that it executes. A node's run id is
derived from the command and the node, so that sending an event twice changes nothing at the receiver.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from uuid import UUID, uuid5

from openlineage.client.event_v2 import Job, Run, RunEvent, RunState
from openlineage.client.facet_v2 import (
    JobFacet,
    RunFacet,
    error_message_run,
    external_query_run,
    job_type_job,
    parent_run,
    processing_engine_run,
    sql_job,
)

from .datasets import Datasets
from .events import CommandFinished, CommandStarted, Life, NodeFinished, NodeStarted, Outcome
from .graph import Graph, Node

PRODUCER = "https://github.com/org/floe-template"
INTEGRATION = "DBT"
TERMINAL = {
    Outcome.SUCCESS: RunState.COMPLETE,
    Outcome.WARN: RunState.COMPLETE,
    Outcome.FAIL: RunState.FAIL,
    Outcome.SKIPPED: RunState.ABORT,
    Outcome.INTERRUPTED: RunState.ABORT,
}


@dataclass(frozen=True, slots=True)
class JobRun:
    """A run of a job, as a child names its parent."""

    namespace: str
    name: str
    run_id: str


class Lineage:
    """Turn the lives of one dbt command into run events."""

    def __init__(
        self, project_name: str, dagster_run: JobRun, graph: Callable[[], Graph], datasets: Callable[[], Datasets]
    ) -> None:
        """Take the names above the nodes, and what tells of nodes: asked for when the first of them starts."""
        self._dagster_run = dagster_run
        self._command = JobRun(dagster_run.namespace, f"dbt.{project_name}", "")
        self._dbt_version = ""
        self._graph = graph
        self._datasets = datasets

    def events(self, life: Life) -> Iterator[RunEvent]:
        """Yield the run event that `life` is."""
        match life:
            case CommandStarted():
                self._command = replace(self._command, run_id=life.invocation_id)
                self._dbt_version = life.dbt_version or ""
                yield self._command_event(RunState.START, life.at.isoformat())
            case CommandFinished():
                state = TERMINAL[life.outcome]
                yield self._command_event(state, life.at.isoformat(), life.message)
            case NodeStarted():
                yield self._node_event(RunState.START, life)
            case NodeFinished():
                yield self._node_event(TERMINAL[life.outcome], life)

    def _command_event(self, state: RunState, at: str, message: str | None = None) -> RunEvent:
        run = Run(self._command.run_id, _run_facets(self._engine(), self._parent(self._dagster_run), message))
        job = Job(self._command.namespace, self._command.name, {"jobType": _job_type("JOB")})
        return RunEvent(eventTime=at, eventType=state, run=run, job=job, producer=PRODUCER)

    def _node_event(self, state: RunState, life: NodeStarted | NodeFinished) -> RunEvent:
        node, datasets = self._graph().node(life.unique_id), self._datasets()
        finished = life if isinstance(life, NodeFinished) else None
        message = finished.message if finished and state is not RunState.COMPLETE else None
        facets = _run_facets(self._engine(), self._parent(self._command), message)
        if finished and (query_id := finished.response.get("query_id")):
            facets["externalQuery"] = external_query_run.ExternalQueryRunFacet(
                externalQueryId=str(query_id), source=datasets.namespace
            )
        return RunEvent(
            eventTime=life.at.isoformat(),
            eventType=state,
            run=Run(node_run_id(life.invocation_id, life.unique_id), facets),
            job=Job(self._command.namespace, life.unique_id, self._job_facets(node, life.resource_type)),
            inputs=datasets.inputs(node),
            # What failed may have written nothing: it claims no output.
            outputs=datasets.outputs(node) if state in {RunState.START, RunState.COMPLETE} else [],
            producer=PRODUCER,
        )

    def _job_facets(self, node: Node, resource_type: str) -> dict[str, JobFacet]:
        facets: dict[str, JobFacet] = {"jobType": _job_type(resource_type.upper())}
        if sql := self._graph().compiled_sql(node):
            facets["sql"] = sql_job.SQLJobFacet(query=sql, dialect=self._datasets().dialect)
        return facets

    def _engine(self) -> RunFacet:
        return processing_engine_run.ProcessingEngineRunFacet(version=self._dbt_version, name="dbt")

    def _parent(self, parent: JobRun) -> RunFacet:
        root = self._dagster_run
        return parent_run.ParentRunFacet(
            run=parent_run.Run(runId=parent.run_id),
            job=parent_run.Job(namespace=parent.namespace, name=parent.name),
            root=parent_run.Root(
                run=parent_run.RootRun(runId=root.run_id),
                job=parent_run.RootJob(namespace=root.namespace, name=root.name),
            ),
        )


def node_run_id(invocation_id: str, unique_id: str) -> str:
    """Return the run id of a node within a dbt command."""
    return str(uuid5(UUID(invocation_id), unique_id))


def _run_facets(engine: RunFacet, parent: RunFacet, message: str | None) -> dict[str, RunFacet]:
    facets = {"parent": parent, "processing_engine": engine}
    if message:
        facets["errorMessage"] = error_message_run.ErrorMessageRunFacet(message=message, programmingLanguage="SQL")
    return facets


def _job_type(kind: str) -> JobFacet:
    return job_type_job.JobTypeJobFacet(processingType="BATCH", integration=INTEGRATION, jobType=kind)
