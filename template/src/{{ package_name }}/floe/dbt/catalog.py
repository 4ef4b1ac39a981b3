"""dbt's `catalog.json`: the columns that `dbt docs generate` found in the warehouse."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..redact.yaml_files import YamlFileError, read_yaml
from .artifacts import generated_at
from .deferral import option
from .manifest_graph import Node, relation


class CatalogError(Exception):
    """The catalog cannot be found or read; the message names the file and what to do."""


class Catalog:
    """The columns of tables, from one or several files; of a table in more than one, from the first of them."""

    def __init__(self, *contents: Mapping[str, Any]) -> None:
        """Take what `read_catalog` has returned."""
        self._tables: dict[tuple[str, tuple[str, ...]], tuple[float, Mapping[str, Any]]] = {}
        for content in reversed(contents):
            made = generated_at(content)
            seconds = made.timestamp() if made else 0.0
            for unique_id, table in (*content.get("nodes", {}).items(), *content.get("sources", {}).items()):
                self._tables[unique_id, relation(table["metadata"])] = seconds, table["columns"]

    def columns(self, node: Node, *, since: float = 0.0) -> dict[str, str | None]:
        """Return the columns and types of a node's table, in their order.

        There are none for a table of another target, nor if the catalog is older than `since`, in seconds since 1970.
        """
        made, columns = self._tables.get((node["unique_id"], relation(node)), (0.0, {}))
        if made < since:
            return {}
        in_order = sorted(columns.values(), key=lambda column: column["index"])
        return {column["name"]: column.get("type") for column in in_order}


def catalog_file(project_dir: Path, arguments: Sequence[str] = ()) -> Path:
    """Return the path where dbt writes a project's catalog, whether or not the file exists.

    The folder is chosen as dbt chooses it: `--target-path` in `arguments`, DBT_TARGET_PATH, `target-path` in
    dbt_project.yml, `target`. It is not the folder of a single run, which dagster-dbt creates inside it.

    Raises:
        CatalogError: `target-path` in dbt_project.yml cannot be rendered.
    """
    folder = option(arguments, "--target-path") or os.environ.get("DBT_TARGET_PATH") or _configured(project_dir)
    return project_dir / folder / "catalog.json"


def read_catalog(file: Path) -> dict[str, Any]:
    """Return the catalog in `file`, or an empty one if there is no such file.

    Raises:
        CatalogError: The file is not a catalog.
    """
    try:
        catalog: dict[str, Any] = json.loads(file.read_bytes())
        if isinstance(catalog["nodes"], dict) and isinstance(catalog["sources"], dict):
            return catalog
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError):
        pass
    msg = f"{file} is not a dbt catalog: run `dbt docs generate` again"
    raise CatalogError(msg)


def made_at(file: Path, catalog: Mapping[str, Any]) -> datetime:
    """Return when dbt wrote the catalog in `file`, in UTC."""
    return generated_at(catalog) or datetime.fromtimestamp(file.stat().st_mtime, UTC)


def _configured(project_dir: Path) -> str:
    from jinja2 import Environment, StrictUndefined, TemplateError  # which dbt uses to render its files

    file = project_dir / "dbt_project.yml"
    try:
        text = str((read_yaml(file) or {}).get("target-path") or "target")
        environment = Environment(undefined=StrictUndefined)  # noqa: S701 - renders a path, not HTML
        return environment.from_string(text).render(env_var=_env_var)
    except (YamlFileError, TemplateError, KeyError) as error:
        if not file.is_file():
            msg = f"{file} is missing: restore it, or check project_dir in floe/settings.toml"
            raise CatalogError(msg) from error
        msg = f"{file}: target-path cannot be read ({error}): set DBT_TARGET_PATH"
        raise CatalogError(msg) from error


def _env_var(name: str, default: str | None = None) -> str:
    return os.environ[name] if default is None else os.environ.get(name, default)
