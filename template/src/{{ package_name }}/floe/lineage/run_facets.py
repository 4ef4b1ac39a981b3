"""The run facets of a Dagster run, a step of Python code, a dbt command and a node.

They are standard facets (https://openlineage.io/docs/spec/facets/run-facets) if the specification has a suitable one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib.metadata import version

from openlineage.client.facet_v2 import (
    RunFacet,
    error_message_run,
    execution_parameters_run,
    external_query_run,
    extraction_error_run,
    nominal_time_run,
    parent_run,
    processing_engine_run,
    set_producer,
    tags_run,
    test_run,
)

from ..dbt.manifest_graph import TEST_TYPES, Graph, Node, is_table
from ..dbt.node_events import CommandStarted, NodeFinished, Outcome
from ..faults import detail, lost_details
from . import checks
from .columns import QueryLineage
from .custom_facets import DbtRunRunFacet, DbtVersionRunFacet
from .parents import CommandInfo, JobRun, RunContext

# The entries of a node's configuration that determine how it runs.
PARAMETERS = ("materialized", "incremental_strategy", "unique_key", "batch_size", "full_refresh", "severity")
TAG_SOURCE = "DBT"
CLIENT = version("openlineage-python")


class RunFacets:
    """The run facets of one command; those that all its nodes share are made once."""

    def __init__(self, dagster_run: RunContext, command: CommandInfo) -> None:
        set_producer(dagster_run.producer)  # of all facets
        self._dagster_run = dagster_run
        self._command = command
        self._root = dagster_run.root or dagster_run.run
        self._started: tuple[CommandStarted, JobRun] | None = None
        self._own: dict[str, RunFacet] = {}
        self._of_nodes: dict[str, RunFacet] = {}

    def command_started(self, event: CommandStarted, run: JobRun) -> None:
        """Record the command's id and version; call this before asking for any facets except for the Dagster run's."""
        self._started = (event, run)

    def dagster_run(self, message: str | None) -> dict[str, RunFacet]:
        """Return the facets of the Dagster run."""
        run = self._dagster_run
        facets = {**self._error(message), **(detail(self._nominal_time) or {})}
        if engine := detail(_engine, run.version, "dagster"):
            facets["processing_engine"] = engine
        if run.parent:
            facets["parent"] = self._parent(run.parent)
        if run.tags:
            facets["tags"] = _tags(run.tags.items(), "DAGSTER")
        return facets

    def command(self, message: str | None) -> dict[str, RunFacet]:
        """Return the facets of the dbt command."""
        if not self._own:
            before = lost_details()
            facets = {**self._place(self._dagster_run.run), **(detail(self._arguments) or {})}
            if lost_details() > before:
                return facets | self._error(message)
            self._own = facets
        return self._own | self._error(message)

    def step(
        self, parent: JobRun, message: str | None, partitions: tuple[str, str] | None, left_out: Sequence[str]
    ) -> dict[str, RunFacet]:
        """Return the facets of a step of Python code, or of one of its checks.

        Args:
            parent: The run above it.
            message: Reason if it did not succeed.
            partitions: First and last partition key, if it has partitions.
            left_out: Messages about missing datasets and columns, with the reasons.
        """
        facets = {
            "parent": self._parent(parent),
            **(detail(self._nominal_time) or {}),
            **self._error(message, "PYTHON"),
        }
        if engine := detail(_engine, self._dagster_run.version, "dagster"):
            facets["processing_engine"] = engine
        if partitions:
            first, last = partitions
            keys = {"partition": first} if first == last else {"partition_start": first, "partition_end": last}
            facets |= detail(_parameters, keys.items()) or {}
        return facets | (detail(_left_out, left_out, 0) or {})

    def test(self, name: str, *, passed: bool, severity: str, description: str | None) -> dict[str, RunFacet]:
        """Return the result of an asset check as a facet of its run."""
        test = test_run.TestExecution(
            name=name,
            status="pass" if passed else "fail",
            severity=severity,
            type="asset_check",
            description=description,
        )
        return {"test": test_run.TestRunFacet(tests=[test])}

    def started(self, node: Node) -> dict[str, RunFacet]:
        """Return the facets of a node's run when it starts."""
        return {**self._shared(), **(detail(_configured, node) or {}), **(detail(_tagged, node) or {})}

    def finished(
        self,
        node: Node,
        event: NodeFinished,
        graph: Graph | None,
        source: str,
        query: QueryLineage | None,
        left_out: Sequence[str],
    ) -> dict[str, RunFacet]:
        """Return the facets of a node's run when it ends.

        Args:
            node: The node's entry in the manifest.
            event: The end of the node.
            graph: The graph of the manifest, if it can be read.
            source: Namespace of the warehouse's datasets, to which the query id belongs; blank if unknown.
            query: Column lineage of the node's output, if it has one.
            left_out: Messages about missing inputs, with the reasons.
        """
        facets = self.started(node)
        if event.outcome not in {Outcome.SUCCESS, Outcome.WARN}:
            language = "PYTHON" if node.get("language") == "python" else "SQL"
            message = event.message or event.status
            facets |= self._error(detail(_with_file, message, graph, node) or message, language)
        if source and (query_id := detail(_query_id, event)):
            facets["externalQuery"] = external_query_run.ExternalQueryRunFacet(query_id, source)
        if node["resource_type"] in TEST_TYPES:
            facets |= detail(checks.run_facets, node, event) or {}
        columns = (detail(_columns_left_out, node, query) if event.outcome is Outcome.SUCCESS else None) or []
        return facets | (detail(_left_out, [*left_out, *columns], len(query.columns) if query else 0) or {})

    def minimal(self, message: str | None = None) -> dict[str, RunFacet]:
        """Return the facets of a node's run that do not need the node: the shared ones, and the error message."""
        return {**(detail(self._shared) or {}), **self._error(message)}

    def _shared(self) -> dict[str, RunFacet]:
        """Return the facets that all nodes share; if some are lost, that counts for each of the nodes."""
        if self._of_nodes:
            return self._of_nodes
        before = lost_details()
        facets = self._place(self._started[1] if self._started else None)
        if lost_details() == before:
            self._of_nodes = facets
        return facets

    def _place(self, parent: JobRun | None) -> dict[str, RunFacet]:
        """Return the facets that the command and its nodes have in common, and their parent."""
        facets = {**(detail(self._dbt) or {}), **(detail(self._nominal_time) or {})}
        if parent and (facet := detail(self._parent, parent)):
            facets["parent"] = facet
        return facets

    def _dbt(self) -> dict[str, RunFacet]:
        if self._started is None:
            raise RuntimeError("no dbt command has started")
        event, command = self._started[0], self._command
        number = event.dbt_version or ""
        return {
            "processing_engine": _engine(number, "dbt"),
            "dbt_version": DbtVersionRunFacet(version=number),
            "dbt_run": DbtRunRunFacet(
                invocation_id=event.invocation_id,
                project_name=command.project_name,
                dbt_runtime="fusion" if number.startswith("2.") else "core",
                project_version=command.project_version,
                profile_name=command.profile_name,
                full_refresh=command.full_refresh,
            ),
        }

    def _arguments(self) -> dict[str, RunFacet]:
        return _parameters(self._command.parameters)

    def _error(self, message: str | None, language: str = "SQL") -> dict[str, RunFacet]:
        if not message:
            return {}
        return {"errorMessage": error_message_run.ErrorMessageRunFacet(message=message, programmingLanguage=language)}

    def _parent(self, parent: JobRun) -> RunFacet:
        root = self._root
        return parent_run.ParentRunFacet(
            run=parent_run.Run(runId=parent.run_id),
            job=parent_run.Job(namespace=parent.namespace, name=parent.name),
            root=parent_run.Root(
                run=parent_run.RootRun(runId=root.run_id),
                job=parent_run.RootJob(namespace=root.namespace, name=root.name),
            ),
        )

    def _nominal_time(self) -> dict[str, RunFacet]:
        nominal = self._dagster_run.nominal
        return {"nominalTime": nominal_time_run.NominalTimeRunFacet(*nominal)} if nominal else {}


def _engine(number: str, name: str) -> RunFacet:
    return processing_engine_run.ProcessingEngineRunFacet(version=number, name=name, openlineageAdapterVersion=CLIENT)


def _with_file(message: str, graph: Graph | None, node: Node) -> str:
    file = graph.compiled_file(node) if graph else None
    if file is None or not file.is_file() or file.name in message:
        return message
    return f"{message}\n\ncompiled code at {file}"


def _query_id(event: NodeFinished) -> str | None:
    response = event.response
    if job := response.get("job_id"):  # BigQuery's job, by its full name
        where = [response.get("project_id"), response.get("location")]
        return f"{where[0]}:{where[1]}.{job}" if all(where) else str(job)
    query = response.get("query_id")
    return str(query) if query and str(query).lower() != "n/a" else None


def _configured(node: Node) -> dict[str, RunFacet]:
    config = node.get("config", {})
    return _parameters((name, str(config[name])) for name in PARAMETERS if config.get(name) is not None)


def _tagged(node: Node) -> dict[str, RunFacet]:
    tags = [(tag, "true") for tag in node.get("tags", [])]
    return {"tags": _tags(tags, TAG_SOURCE)} if tags else {}


def _parameters(pairs: Iterable[tuple[str, str]]) -> dict[str, RunFacet]:
    parameters = [execution_parameters_run.ExecutionParameter(key=key, value=value) for key, value in pairs]
    if not parameters:
        return {}
    return {"executionParameters": execution_parameters_run.ExecutionParametersRunFacet(parameters=parameters)}


def _tags(tags: Iterable[tuple[str, str]], source: str) -> RunFacet:
    return tags_run.TagsRunFacet(
        tags=[tags_run.TagsRunFacetFields(key=key, value=value, source=source) for key, value in tags]
    )


def _columns_left_out(node: Node, query: QueryLineage | None) -> list[str]:
    """Return a message for each column whose lineage could not be followed."""
    if query is None:
        if node["resource_type"] not in {"model", "snapshot"} or not is_table(node):
            return []
        return [f"column lineage: a {node['resource_type']} without compiled SQL has none, such as one in Python"]
    if query.problem:
        return [f"column lineage: {query.problem}"]
    problems = [f"column lineage: the origin of {name} is not certain" for name in query.left_out]
    if not query.complete:
        problems.append("column lineage: not all columns are known by name")
    if not query.rows_known:
        problems.append("column lineage: not all columns that determine the rows are known")
    if problems:
        problems += [
            f"column lineage: the columns of {table} are not known; "
            "run `dbt docs generate`, document a source's columns, or build the table with `--full-refresh`"
            for table in query.open_tables
        ]
    return problems


def _left_out(problems: Sequence[str], columns: int) -> dict[str, RunFacet]:
    """Return the facet that counts the gaps in a node's inputs and `columns`, with the reasons."""
    if not problems:
        return {}
    errors = [extraction_error_run.Error(problem, task=_task(problem)) for problem in problems]
    return {
        "extractionError": extraction_error_run.ExtractionErrorRunFacet(
            totalTasks=max(columns, len(problems)), failedTasks=len(problems), errors=errors
        )
    }


def _task(problem: str) -> str:
    """Return the part of an event that a message about a gap belongs to; its first word names the part."""
    return {"column": "columnLineage", "columns:": "columnLineage", "output:": "outputs"}.get(
        problem.split()[0], "inputs"
    )


def incomplete(facets: dict[str, RunFacet], lost: int) -> dict[str, RunFacet]:
    """Return the facet that reports the number of details lost from an event, added to its earlier errors."""
    before = facets.get("extractionError")
    known = before if isinstance(before, extraction_error_run.ExtractionErrorRunFacet) else None
    message = f"details of this event lost to an internal error: {lost}; the first such error is in the run's log"
    errors = [*(known.errors if known else ()), extraction_error_run.Error(errorMessage=message, task="floe")]
    total = max(known.totalTasks if known else 0, len(errors))
    return {
        "extractionError": extraction_error_run.ExtractionErrorRunFacet(
            totalTasks=total, failedTasks=len(errors), errors=errors
        )
    }
