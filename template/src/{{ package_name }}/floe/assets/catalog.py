"""The assets of a code location, and those of them that a step of Python code materializes or checks.

In: Dagster's definitions, and its context of a step. Out: asset specs, and for a key that belongs to dbt, the node.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import dagster as dg

from ..step import DBT_TAG

# Entries with which dagster-dbt marks the specs of dbt's nodes.
MANIFEST = "dagster_dbt/manifest"
TRANSLATOR = "dagster_dbt/dagster_dbt_translator"
UNIQUE_ID = "dagster_dbt/unique_id"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepAssets:
    """The assets of a step whose code is watched from its start.

    Attributes:
        is_dbt: Whether the step builds dbt's nodes, which are reported one by one.
        specs: The assets that it materializes, except for those of dbt.
        checks: The asset checks that it evaluates, likewise.
        is_of_asset: Whether the step belongs to an asset, if only as one of several ops.
        catalog: All assets of the code location.
        description: Description of the asset or op.
        source: File and first line of its function, if they are known.
    """

    is_dbt: bool
    specs: tuple[dg.AssetSpec, ...]
    checks: tuple[dg.AssetCheckKey, ...]
    is_of_asset: bool
    catalog: AssetCatalog
    description: str | None
    source: tuple[Path, int] | None

    @property
    def inputs(self) -> list[dg.AssetKey]:
        """Return the keys of the assets that the step reads: dependencies, and checked assets of other steps."""
        own = {spec.key for spec in self.specs}
        keys = [dep.asset_key for spec in self.specs for dep in spec.deps]
        keys += [check.asset_key for check in self.checks]
        return [key for key in dict.fromkeys(keys) if key not in own]


class AssetCatalog:
    """The assets of a code location, whose specs are read on first use."""

    def __init__(self, definitions: dg.Definitions) -> None:
        self._definitions = definitions
        self._run_id = ""
        self._materialized: dict[dg.AssetKey, Mapping[str, Any]] = {}

    def remember(self, run_id: str, key: dg.AssetKey, metadata: Mapping[str, Any]) -> None:
        """Store the metadata of an asset that a step of this process has materialized in the given run."""
        if run_id != self._run_id:
            self._run_id = run_id
            self._materialized.clear()
        self._materialized[key] = metadata

    def remembered(self, run_id: str, key: dg.AssetKey) -> Mapping[str, Any] | None:
        """Return the metadata of an asset that this process has materialized in the given run, or None."""
        return self._materialized.get(key) if run_id == self._run_id else None

    @cached_property
    def specs(self) -> Mapping[dg.AssetKey, dg.AssetSpec]:
        """Return the specs of all assets by key."""
        return {spec.key: spec for spec in self._definitions.resolve_all_asset_specs()}

    def dbt_node(self, key: dg.AssetKey) -> tuple[Mapping[str, Any], Mapping[str, Any]] | None:
        """Return the dbt node behind an asset, and its manifest; a source too; None if the asset is not dbt's."""
        return self._dbt_nodes.get(key)

    @cached_property
    def manifests(self) -> list[Mapping[str, Any]]:
        """Return the manifests of the code location's dbt projects."""
        return [manifest for manifest, _ in self._projects]

    @cached_property
    def _projects(self) -> list[tuple[Mapping[str, Any], Any]]:
        projects = {}
        for spec in self.specs.values():
            if wrapper := spec.metadata.get(MANIFEST):
                manifest = wrapper.manifest
                projects[id(manifest)] = manifest, spec.metadata[TRANSLATOR]
        return list(projects.values())

    @cached_property
    def _dbt_nodes(self) -> Mapping[dg.AssetKey, tuple[Mapping[str, Any], Mapping[str, Any]]]:
        nodes = {}
        for manifest, wrapper in self._projects:
            translator = getattr(wrapper, "translator", wrapper)
            for source in manifest.get("sources", {}).values():
                nodes[translator.get_asset_key(source)] = source, manifest
        for spec in self.specs.values():
            if wrapper := spec.metadata.get(MANIFEST):
                manifest = wrapper.manifest
                unique_id = spec.metadata[UNIQUE_ID]
                node = manifest["nodes"].get(unique_id) or manifest.get("sources", {}).get(unique_id)
                if node:
                    nodes[spec.key] = node, manifest
        return nodes

    def step_assets(self, context: dg.OpExecutionContext, function: Callable[..., Any]) -> StepAssets:
        """Return the assets of the step that `context` belongs to, whose code is `function`."""
        step = context.get_step_execution_context().step
        is_dbt = any(tag.startswith(DBT_TAG) for tag in step.tags or ())
        outputs = [output.properties for output in step.step_outputs]
        keys = [output.asset_key for output in outputs if output.asset_key]
        is_of_asset = context.has_assets_def
        definition = context.assets_def if is_of_asset and not is_dbt else None
        own = {spec.key: spec for spec in definition.specs} if definition else {}
        descriptions = [spec.description for spec in own.values()]
        return StepAssets(
            is_dbt=is_dbt,
            specs=tuple(own[key] for key in keys if key in own),
            checks=tuple(output.asset_check_key for output in outputs if output.asset_check_key and not is_dbt),
            is_of_asset=is_dbt or bool(own),
            catalog=self,
            description=(descriptions[0] if len(descriptions) == 1 else None) or context.op_def.description,
            source=_source(function),
        )


def _source(function: Callable[..., Any]) -> tuple[Path, int] | None:
    code = getattr(inspect.unwrap(function), "__code__", None)
    return (Path(code.co_filename), int(code.co_firstlineno)) if code else None
