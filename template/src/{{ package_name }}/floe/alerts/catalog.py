"""The assets of this code location with their owners, read from its definitions."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cached_property
from typing import Any

import dagster as dg

from ..assets.meta import resolve_owners

# How dbt names the node in its message: `Database Error in model orders (models/marts/orders.sql)`.
NODE = re.compile(r"\bin (?:model|seed|snapshot) (\w+)|^(?:model|seed|snapshot)\.\w+\.(\w+)", re.MULTILINE)


class Catalog:
    """The assets of a code location. Without its definitions, as in a test, each asset is its own and has no owner."""

    def __init__(self, repository: dg.RepositoryDefinition | None, default_owner: str) -> None:
        """Read from `repository`; an asset without owners belongs to `default_owner`."""
        self._repository = repository
        self._default_owner = default_owner

    @cached_property
    def _nodes(self) -> dict[dg.AssetKey, Any]:
        if self._repository is None:
            return {}
        graph = self._repository.asset_graph
        return {key: graph.get(key) for key in graph.get_all_asset_keys()}

    def has(self, key: dg.AssetKey) -> bool:
        """Return whether an asset belongs to this code location."""
        return self._repository is None or key in self._nodes

    def owners(self, keys: Iterable[dg.AssetKey]) -> tuple[str, ...]:
        """Return the owners of assets without repetitions, or the default owner if they have none."""
        own = [owner for key in keys if key in self._nodes for owner in self._nodes[key].owners]
        return tuple(dict.fromkeys(own)) or tuple(resolve_owners(None, None, self._default_owner, lambda _: None))

    def named_assets(self, cause: str) -> set[dg.AssetKey]:
        """Return the assets whose nodes dbt names in its message."""
        names = {name for names in NODE.findall(cause) for name in names if name}
        return {key for key in self._nodes if key.path[-1] in names}

    def assets_of(self, run: dg.DagsterRun, step_key: str | None) -> set[dg.AssetKey]:
        """Return the assets that a step of a run builds, or else those of the run."""
        selected = set(run.asset_selection or ())
        of_step = {key for key in self._nodes if step_key and self._op_name(key) == step_key.partition(".")[0]}
        return (of_step & selected if selected else of_step) or selected

    def _op_name(self, key: dg.AssetKey) -> str | None:
        definition = self._nodes[key].assets_def
        return definition.node_def.name if definition.is_executable else None

    def window(self, key: dg.AssetKey) -> str:
        """Return the maximum age of an asset in words, or a blank string if it is not known."""
        policy = self._nodes[key].freshness_policy if key in self._nodes else None
        window = getattr(policy, "fail_window", None)
        return f"it may be {window.to_timedelta()} old" if window else ""
