"""The Dagster translator: dagster-dbt's asset specs with `meta.floe` merged in.

It adds owners, tags, metadata, the freshness policy and column tags, and keeps everything that dagster-dbt sets.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any

import dagster as dg
from dagster_dbt import DagsterDbtTranslator, DbtProject

from ..settings import settings
from .meta import ColumnMeta, NodeMeta, Report, as_dict, read_column_meta, read_node_meta, resolve_owners, sla_window

logger = logging.getLogger(__name__)

COLUMN_SCHEMA = "dagster/column_schema"


class FloeTranslator(DagsterDbtTranslator):
    """The translator of dbt nodes; to change more, override `get_asset_spec` in a subclass in `defs/`."""

    def get_asset_spec(self, manifest: Mapping[str, Any], unique_id: str, project: DbtProject | None) -> dg.AssetSpec:
        """Return the asset spec of a node. An invalid `meta.floe` entry causes a warning, never an error."""
        specs: dict[tuple[int, str], dg.AssetSpec] = self.__dict__.setdefault("_floe_specs", {})
        memo = (id(manifest), unique_id)
        if memo not in specs:
            spec = super().get_asset_spec(manifest, unique_id, project)
            node = self.get_resource_props(manifest, unique_id)
            specs[memo] = _merge(self._without_duplicate_sources(spec, manifest, node), node)
        return specs[memo]

    def _without_duplicate_sources(
        self, spec: dg.AssetSpec, manifest: Mapping[str, Any], node: Mapping[str, Any]
    ) -> dg.AssetSpec:
        """Drop a dependency on a source whose table is that of another dependency, such as the seed that loads it.

        Dagster treats assets with the same `dagster/table_name` as one asset, and rejects two deps on it in a subset.
        """
        upstream = [
            self.get_resource_props(manifest, unique_id)
            for unique_id in node.get("depends_on", {}).get("nodes", [])
            if unique_id in manifest["nodes"] or unique_id in manifest["sources"]
        ]
        built = {parent.get("relation_name") for parent in upstream if parent["resource_type"] != "source"}
        duplicates = {
            self.get_asset_key(parent)
            for parent in upstream
            if parent["resource_type"] == "source" and parent.get("relation_name") in built
        }
        if not duplicates:
            return spec
        return spec.replace_attributes(deps=[dep for dep in spec.deps if dep.asset_key not in duplicates])


def _merge(spec: dg.AssetSpec, node: Mapping[str, Any]) -> dg.AssetSpec:
    def report(problem: str) -> None:
        logger.warning("%s (%s): %s", node["unique_id"], _files(node), problem)

    meta = read_node_meta(node, report)
    columns = read_column_meta(node, report)
    window = sla_window(meta.sla, settings.sla_tiers, report) if meta.sla else None
    # Replace all attributes at once: each call builds a new spec, and a code location has thousands of them.
    return spec.replace_attributes(
        owners=resolve_owners(meta.owner, spec.owners, settings.owner, report),
        tags={**spec.tags, **_tags(meta, report)},
        metadata={
            **spec.metadata,
            **{f"floe/{name}": value for name, value in as_dict(meta).items()},
            **_schema(spec, columns),
        },
        freshness_policy=dg.FreshnessPolicy.time_window(window) if window else spec.freshness_policy,
    )


def _files(node: Mapping[str, Any]) -> str:
    """Return the files that may contain a node's metadata: its properties file, if it has one, and its own file."""
    properties = str(node.get("patch_path") or "").partition("://")[2]
    files = [file for file in (properties, node.get("original_file_path")) if file]
    return " or ".join(dict.fromkeys(files)) or "?"


def _tags(meta: NodeMeta, report: Report) -> dict[str, str]:
    entries = as_dict(meta)
    return {f"floe/{name}": _tag_value(entries[name], report) for name in ("classification", "sla") if name in entries}


def _tag_value(value: str, report: Report) -> str:
    # Dagster's rule for tag values.
    allowed = re.sub(r"[^A-Za-z0-9_.-]+", "-", value)[:63]
    if allowed != value:
        report(f"{value!r} is not a valid tag value; it appears as {allowed!r}")
    return allowed


def _schema(spec: dg.AssetSpec, columns: Mapping[str, ColumnMeta]) -> dict[str, dg.TableSchema]:
    schema = spec.metadata.get(COLUMN_SCHEMA)
    value = getattr(schema, "schema", schema)
    if not columns or not isinstance(value, dg.TableSchema):
        return {}
    return {
        COLUMN_SCHEMA: dg.TableSchema(
            constraints=value.constraints,
            columns=[
                dg.TableColumn(
                    name=column.name,
                    type=column.type,
                    description=column.description,
                    constraints=column.constraints,
                    tags={**column.tags, **_column_tags(columns.get(column.name))},
                )
                for column in value.columns
            ],
        )
    }


def _column_tags(meta: ColumnMeta | None) -> dict[str, str]:
    return {f"floe/{name}": value for name, value in as_dict(meta).items()} if meta else {}
