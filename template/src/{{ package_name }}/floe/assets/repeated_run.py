"""What an earlier run has recorded of a step that Dagster repeats "from failure", for the steps and pages that need it.

dbt builds only what is missing, but Dagster keeps no outputs of a failed step: without an output of the new run, the
steps that need it are skipped, and the page of an asset shows a check of the new run without a result.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import dagster as dg

from ..step import Context, Step

RUN = "Built in run"
EVENTS = {dg.DagsterEventType.ASSET_MATERIALIZATION, dg.DagsterEventType.ASSET_CHECK_EVALUATION}


def earlier_events(context: Context, step: Step) -> Iterator[dg.Output[None] | dg.AssetCheckResult]:
    """Yield again what the failed run has recorded of this step.

    An output is yielded only if another step of the run needs it, since Dagster takes each for a new materialization.
    """
    if step.failed_run_id is None or not context.has_assets_def:
        return
    outputs: dict[str, dg.Output[None]] = {}
    checks: dict[dg.AssetCheckKey, dg.AssetCheckResult] = {}
    wanted = context.selected_asset_check_keys
    for record in context.instance.all_logs(step.failed_run_id, of_type=EVENTS):
        event = record.dagster_event
        if event is None or event.step_key != step.key:
            continue
        if event.event_type is dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            evaluation = event.asset_check_evaluation_data
            is_repeated = not evaluation.passed and evaluation.severity is dg.AssetCheckSeverity.ERROR
            if evaluation.asset_check_key in wanted and not is_repeated:
                checks[evaluation.asset_check_key] = dg.AssetCheckResult(
                    asset_key=evaluation.asset_key,
                    check_name=evaluation.check_name,
                    passed=evaluation.passed,
                    severity=evaluation.severity,
                    description=evaluation.description,
                    metadata=_with_run(evaluation.metadata, step.failed_run_id),
                )
            continue
        materialization = event.step_materialization_data.materialization
        name = materialization.asset_key.to_python_identifier()
        if name in step.needed_outputs:
            metadata = _with_run(materialization.metadata, step.failed_run_id)
            outputs[name] = dg.Output(None, output_name=name, metadata=metadata)
    yield from outputs.values()
    yield from checks.values()


def _with_run(metadata: Mapping[str, dg.MetadataValue], run_id: str) -> dict[str, dg.MetadataValue]:
    """Return metadata that name the run; if it repeats another one, the first."""
    return {RUN: dg.MetadataValue.dagster_run(run_id), **metadata}
