"""The metadata under `meta.floe`: owner, service level and classifications of a dbt node.

In: the properties of a dbt node in the manifest. Out: plain data, and a problem for each entry that is not understood.
`config.meta` takes precedence over `meta`, because dbt 1.10 moved `meta` under `config`.
"""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import timedelta
from functools import cache
from typing import Any

logger = logging.getLogger(__name__)

DURATION = re.compile(r"(?P<count>[1-9][0-9]{0,4})\s*(?P<unit>[mhd])")
UNITS = {"m": "minutes", "h": "hours", "d": "days"}
# Owners that Dagster accepts: team:name, or an e-mail address of the form that its `is_valid_email` requires.
OWNER = re.compile(r"team:[\w.-]+|\b[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,7}")


# All other entries are lower-cased: a policy must not treat "Restricted" and "restricted" as two classifications.
WRITTEN_AS_IS = {"owner", "sla"}


@dataclass(frozen=True, slots=True)
class NodeMeta:
    """`meta.floe` of a model, seed, snapshot or source."""

    owner: str | None = None
    classification: str | None = None
    sla: str | None = None


@dataclass(frozen=True, slots=True)
class ColumnMeta:
    """`meta.floe` of a column."""

    classification: str | None = None
    pii_type: str | None = None
    sensitivity: str | None = None


Report = Callable[[str], None]
# A node of the manifest -> its owners.
Owners = Callable[[Mapping[str, Any]], Sequence[str]]


def as_dict(meta: NodeMeta | ColumnMeta) -> dict[str, str]:
    """Return the entries of `meta` that are set, by name."""
    return {name: value for name in meta.__slots__ if (value := getattr(meta, name))}


def read_node_meta(node: Mapping[str, Any], report: Report) -> NodeMeta:
    """Return `meta.floe` of `node`; call `report` with a message for each entry that is left out."""
    return NodeMeta(**_known(_floe(node, report), NodeMeta, _prefixed(report, "meta.floe")))


def read_column_meta(node: Mapping[str, Any], report: Report) -> dict[str, ColumnMeta]:
    """Return `meta.floe` of the columns of `node` that have it, by column name as spelled in the manifest."""
    columns = {}
    for name, column in node.get("columns", {}).items():
        warn = _prefixed(report, f"columns.{name}.")
        if entries := _known(_floe(column, warn), ColumnMeta, _prefixed(warn, "meta.floe")):
            columns[name] = ColumnMeta(**entries)
    return columns


def resolve_owners(
    owner: str | None, dbt_owners: Sequence[str] | None, default: str | None, report: Report
) -> list[str]:
    """Return the owners of a node, the same for Dagster and for lineage.

    Each owner is an e-mail address or `team:name`. Dagster accepts nothing else, and OpenLineage recommends this form.

    Args:
        owner: The owner in `meta.floe`, if there is one; it takes precedence.
        dbt_owners: The owners that dagster-dbt reads from `meta.dagster.owners` or from the node's dbt group.
        default: The owner of a node that has none of these; blank or None for no owner.
        report: Called with a message if `owner` had to be changed.
    """
    if owner:
        return [dagster_owner(owner, "meta.floe.owner", report)]
    return list(dbt_owners or ()) or ([_default_owner(default)] if default else [])


def dagster_owner(owner: str, place: str, report: Report) -> str:
    """Return `owner` in a form that Dagster accepts, an e-mail address or team:name; a plain name becomes a team.

    `place` says where the owner is written, for `report`.
    """
    if OWNER.fullmatch(owner):
        return owner
    team = "team:" + (re.sub(r"[^\w.-]+", "-", owner.removeprefix("team:")).strip("-") or "unknown")
    report(f"{place} {owner!r} is neither an e-mail address that Dagster accepts nor team:name; write {team!r}")
    return team


@cache
def _default_owner(owner: str) -> str:
    """Return the project's default owner in Dagster's form; warn once, not for each node that has no owner."""
    return dagster_owner(owner, "floe/settings.toml: owner", logger.warning)


def sla_window(sla: str, tiers: Mapping[str, str], report: Report) -> timedelta | None:
    """Return the maximum age that `sla` allows an asset: a duration (`30m`, `24h`, `7d`) or a name in `tiers`."""
    match = DURATION.fullmatch(tiers.get(sla, sla))
    if match is None:
        allowed = ", ".join(["a duration such as 24h", *tiers])
        report(f"meta.floe.sla {sla!r} is not one of: {allowed}; no freshness policy is set")
        return None
    return timedelta(**{UNITS[match["unit"]]: int(match["count"])})


def _prefixed(report: Report, place: str) -> Report:
    return lambda problem: report(f"{place}{problem}")


def _floe(props: Mapping[str, Any], report: Report) -> Any:
    metas = [meta for meta in (props.get("config", {}).get("meta"), props.get("meta")) if isinstance(meta, Mapping)]
    for meta in metas:
        if "floe" in meta:
            return meta["floe"]
    for key in dict.fromkeys(str(key) for meta in metas for key in meta):
        if difflib.get_close_matches(key.lower(), ["floe"], cutoff=0.8):  # "flow" may be meant
            report(f"meta.{key} is ignored; did you mean 'meta.floe'?")
    return {}


def _known(entries: Any, kind: type[NodeMeta | ColumnMeta], report: Report) -> dict[str, str]:
    if not isinstance(entries, Mapping):
        report(f" is {entries!r}; write it as a mapping of {_listed(kind)}")
        return {}
    names = [field.name for field in fields(kind)]
    known = {}
    for key, value in entries.items():
        if key not in names:
            report(f".{key} is unknown; {_advice(str(key), names)}")
        elif not isinstance(value, str) or not value.strip():
            report(f".{key} is {value!r}; write a string")
        else:
            known[key] = value.strip() if key in WRITTEN_AS_IS else value.strip().lower()
    return known


def _advice(key: str, names: Iterable[str]) -> str:
    names = list(names)
    near = difflib.get_close_matches(key, names, n=1)
    return f"did you mean {near[0]!r}?" if near else f"use one of {', '.join(names)}"


def _listed(kind: type[NodeMeta | ColumnMeta]) -> str:
    return ", ".join(field.name for field in fields(kind))
