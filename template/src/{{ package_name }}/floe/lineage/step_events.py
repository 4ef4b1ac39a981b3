"""The run events of a step of Python code: an asset, an asset check or an op.

There is one run per attempt, below the run of Dagster, and one per check that an asset evaluates itself. The inputs are
the assets that the step depends on, and the outputs those that it has materialized. An asset without a name in
OpenLineage is left out and counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID, uuid5

import dagster as dg
from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState
from openlineage.client.facet_v2 import DatasetFacet, InputDatasetFacet, RunFacet, data_quality_assertions_dataset

from ..assets.catalog import StepAssets
from ..assets.results import Checked, Materialized, Result, plain
from ..dbt.node_events import Outcome
from ..dbt.profile import ProfileError
from ..faults import Losses, detail, lost_details
from ..step import Step
from .asset_facets import asset_facets, column_lineage, statistics
from .asset_names import AssetNames
from .events import TERMINAL_STATES
from .jobs import Repository, check_job_name, job_type, step_facets, step_job_name
from .locations import DatasetName
from .parents import CommandInfo, JobRun, RunContext
from .run_facets import RunFacets, incomplete

NO_NAME = "has no name in OpenLineage; give it `dagster/uri`, or `dagster/table_name` and the kind of the warehouse"
KINDS = {"asset": "ASSET", "asset_check": "ASSET_CHECK", "op": "OP"}


class StepEventBuilder:
    """A builder of the run events of one attempt at a step."""

    def __init__(
        self,
        dagster_run: RunContext,
        step: Step,
        assets: StepAssets,
        names: AssetNames,
        repository: Repository | None,
        losses: Losses,
    ) -> None:
        self._dagster_run = dagster_run.run
        self._producer = dagster_run.producer
        self._facets = RunFacets(dagster_run, CommandInfo(project_name=""))
        self._step = step
        self._assets = assets
        self._names = names
        self._repository = repository
        self._losses = losses
        job_name = step_job_name(step, assets)
        self._run = JobRun(dagster_run.run.namespace, job_name, step_run_id(step))
        self._kind = KINDS[job_name.partition(".")[0]]
        self._metadata: dict[dg.AssetKey, Mapping[str, Any]] = {}

    def started(self, at: datetime) -> RunEvent:
        """Return the start of the step."""
        return self._event(RunState.START, at, None, (), ())

    def finished(
        self, at: datetime, outcome: Outcome, message: str | None, results: Sequence[Result]
    ) -> Iterator[RunEvent]:
        """Yield the events of the checks that the step's assets have evaluated, and the end of the step."""
        materialized = [result for result in results if isinstance(result, Materialized)]
        checked = [result for result in results if isinstance(result, Checked)]
        own_checks = checked if self._kind == "ASSET_CHECK" else ()
        for check in () if own_checks else checked:
            yield from self._check_events(check)
        yield self._event(TERMINAL_STATES[outcome], at, message, materialized, own_checks)

    def _event(
        self,
        state: RunState,
        at: datetime,
        message: str | None,
        materialized: Sequence[Materialized],
        checked: Sequence[Checked],
    ) -> RunEvent:
        with self._losses.of(self._run.name):
            before = lost_details()
            problems: list[str] = []
            inputs = detail(self._inputs, checked, problems) or []
            outputs = detail(self._outputs, materialized, problems) or []
            facets = detail(self._facets.step, self._dagster_run, message, self._step.partitions, problems) or {}
            for check in checked:
                facets |= detail(self._test, check) or {}
            job_facets = detail(step_facets, self._assets, self._kind, self._repository) or {}
            if lost := lost_details() - before:
                facets |= detail(incomplete, facets, lost) or {}
        return RunEvent(
            eventTime=at.isoformat(),
            eventType=state,
            run=Run(self._run.run_id, facets),
            job=Job(self._run.namespace, self._run.name, job_facets),
            inputs=inputs,
            outputs=outputs,
            producer=self._producer,
        )

    def _check_events(self, check: Checked) -> Iterator[RunEvent]:
        name = check_job_name(check.key)
        with self._losses.of(name):
            problems: list[str] = []
            table = detail(self._name, check.key.asset_key, problems, "input")
            inputs = [InputDataset(*table, inputFacets=_assertions([check]))] if table else []
            run_id = str(uuid5(UUID(self._run.run_id), name))
            facets: dict[str, RunFacet] = {
                **(detail(self._facets.step, self._run, None, self._step.partitions, problems) or {}),
                **(detail(self._test, check) or {}),
            }
        for state in (RunState.START, RunState.COMPLETE):
            yield RunEvent(
                eventTime=check.at.isoformat(),
                eventType=state,
                run=Run(run_id, facets),
                job=Job(self._run.namespace, name, {"jobType": job_type(KINDS["asset_check"], "DAGSTER")}),
                inputs=inputs,
                outputs=[],
                producer=self._producer,
            )

    def _test(self, check: Checked) -> dict[str, RunFacet]:
        return self._facets.test(
            check_job_name(check.key), passed=check.passed, severity=check.severity, description=check.description
        )

    def _inputs(self, checked: Sequence[Checked], problems: list[str]) -> list[InputDataset]:
        names = {key: detail(self._name, key, problems, "input") for key in self._assets.inputs}
        return [
            InputDataset(*name, inputFacets=_assertions([check for check in checked if check.key.asset_key == key]))
            for key, name in names.items()
            if name
        ]

    def _outputs(self, materialized: Sequence[Materialized], problems: list[str]) -> list[OutputDataset]:
        specs = {spec.key: spec for spec in self._assets.specs}
        outputs: dict[DatasetName, OutputDataset] = {}
        for result in materialized:
            spec = specs.get(result.key) or dg.AssetSpec(result.key)
            metadata = {**plain(spec.metadata), **result.metadata}
            self._metadata[result.key] = metadata
            self._assets.catalog.remember(self._step.run_id, result.key, result.metadata)
            if not (name := self._name(result.key, problems, "output")):
                continue
            # Of a range of partitions, Dagster records the same metadata for each.
            is_range = sum(other.key == result.key for other in materialized) > 1
            written = {} if is_range else statistics(metadata, is_partition=result.partition is not None)
            facets: dict[str, DatasetFacet] = asset_facets(
                name, spec, metadata, detail(self._names.alternative_names, result.key) or []
            )
            lineage, unnamed = column_lineage(metadata, lambda key: self._name(key, [], "input"))
            if lineage:
                facets["columnLineage"] = lineage
            problems += unnamed
            outputs[name] = OutputDataset(*name, facets=facets, outputFacets=written)
        return list(outputs.values())

    def _name(self, key: dg.AssetKey, problems: list[str], side: str) -> DatasetName | None:
        """Return the name of an asset; if it has none, add the reason to `problems`."""
        spec = self._assets.catalog.specs.get(key)
        kinds = spec.kinds if spec else ()
        try:
            # The definition comes first, because the metadata of another step's asset takes a query.
            name = self._names.name(key, plain(spec.metadata if spec else {}), kinds)
            name = name or self._names.name(key, self._known_metadata(key, spec), kinds)
        except ProfileError as error:
            problems.append(f"{side}: the table of asset {key.to_user_string()} has no name, because {error}")
            return None
        if name is None:
            problems.append(f"{side}: asset {key.to_user_string()} {NO_NAME}")
        return name

    def _known_metadata(self, key: dg.AssetKey, spec: dg.AssetSpec | None) -> Mapping[str, Any]:
        """Return the metadata of an asset, of this step or else of its last materialization."""
        if key not in self._metadata:
            catalog = self._assets.catalog
            # Metadata of a partition may be of another one than the step reads.
            is_partitioned = spec is not None and spec.partitions_def is not None
            known = {} if is_partitioned else catalog.remembered(self._step.run_id, key)
            if known is None:
                known = {} if catalog.dbt_node(key) else plain(self._step.last_materialization(key)[0])
            self._metadata[key] = {**plain(spec.metadata if spec else {}), **known}
        return self._metadata[key]


def step_run_id(step: Step) -> str:
    """Return the run id of an attempt at a step, which is the same in every process."""
    return str(uuid5(UUID(step.run_id), f"{step.key}.{step.attempt}"))


def _assertions(checks: Sequence[Checked]) -> dict[str, InputDatasetFacet]:
    assertions = [
        data_quality_assertions_dataset.Assertion(
            assertion=check.key.name,
            success=check.passed,
            severity=check.severity,
            name=check.key.name,
            description=check.description,
        )
        for check in checks
    ]
    if not assertions:
        return {}
    return {
        "dataQualityAssertions": data_quality_assertions_dataset.DataQualityAssertionsDatasetFacet(
            assertions=assertions
        )
    }
