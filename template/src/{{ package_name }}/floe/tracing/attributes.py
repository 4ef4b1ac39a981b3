"""The attributes of spans.

Names follow OpenTelemetry's semantic conventions for databases and code (schema 1.44,
https://opentelemetry.io/docs/specs/semconv/). Attributes without a name there are called `dbt.*` or `dagster.*`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import dagster as dg

from ..assets.catalog import StepAssets
from ..assets.results import Materialized, Result
from ..dbt.manifest_graph import HOOK, TEST_TYPES, Node
from ..dbt.node_events import NodeFinished, Outcome
from ..dbt.raw_events import parse_time
from ..dbt.volumes import volumes
from ..step import Step
from ..warehouse import Connection, Warehouse

Attributes = Mapping[str, str | int | float | bool]

# Codes that adapters return instead of an operation.
NO_OPERATIONS = {"OK", "SUCCESS"}
# At the start of dbt's message, possibly after the node's name.
ERROR = re.compile(r"(?:[a-z_]+\.\S+: )?([A-Z]\w+ Error\b)")
DBT_ERROR = "DagsterDbtCliRuntimeError"
SQL_CHARACTERS = 4_096  # limit for a statement's text, since dbt's SQL can be megabytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One SQL statement that dbt ran for a node."""

    text: str
    started_at: datetime
    finished_at: datetime
    query_id: str | None = None
    has_failed: bool = False

    @property
    def operation(self) -> str:
        """Return the first word after any comments, such as CREATE."""
        text = self.text
        while text.lstrip().startswith("/*"):
            text = text.partition("*/")[2]
        return (text.split(maxsplit=1) or ["SQL"])[0].upper()[:40]


def step_attributes(step: Step) -> Attributes:
    """Return Dagster's attributes, the same for all spans of a step: the run, the attempt, the partition or range."""
    first, last = step.partitions or (None, None)
    is_range = step.partitions is not None and first != last
    return _present(
        {
            "dagster.run_id": step.run_id,
            "dagster.job.name": step.job_name,
            "dagster.retry_number": step.attempt,
            "dagster.partition_key": None if is_range else first,
            "dagster.partition_key_range.start": first if is_range else None,
            "dagster.partition_key_range.end": last if is_range else None,
        }
    )


def code_attributes(assets: StepAssets) -> Attributes:
    """Return the attributes of a step's code: its file and first line."""
    file, line = assets.source or (None, None)
    return _present({"code.file.path": str(file) if file else None, "code.line.number": line})


def asset_attributes(key: dg.AssetKey) -> Attributes:
    """Return the attributes of an asset of Python code."""
    return {"dagster.asset.key": key.to_user_string()}


def result_attributes(result: Result) -> Attributes:
    """Return the attributes of what a step's code has materialized or checked."""
    if isinstance(result, Materialized):
        rows = result.metadata.get("dagster/partition_row_count", result.metadata.get("dagster/row_count"))
        return _present({**asset_attributes(result.key), "dagster.asset.row_count": rows})
    return {
        **asset_attributes(result.key.asset_key),
        "dagster.asset_check.name": result.key.name,
        "dagster.asset_check.passed": result.passed,
        "dagster.asset_check.severity": result.severity,
    }


def warehouse_attributes(warehouse: Warehouse, connection: Connection) -> Attributes:
    """Return the attributes of the database."""
    port = connection.get("port")
    return _present(
        {
            "db.system.name": warehouse.db_system,
            "server.address": connection.get("host") or connection.get("account"),
            "server.port": int(port) if port else None,
        }
    )


def manifest_attributes(node: Node) -> Attributes:
    """Return the attributes of a node from dbt's manifest: its file and its table."""
    has_table = node["resource_type"] not in {*TEST_TYPES, HOOK}
    is_hook = node["resource_type"] == HOOK  # dbt's manifest calls it a view
    return _present(
        {
            "dbt.materialized": None if is_hook else node.get("config", {}).get("materialized"),
            "db.namespace": ".".join(part for part in (node.get("database"), node.get("schema")) if part),
            "db.collection.name": (node.get("alias") or node.get("name")) if has_table else None,
            "code.file.path": node.get("original_file_path"),
        }
    )


def node_attributes(event: NodeFinished, prices: Mapping[str, float]) -> Attributes:
    """Return the attributes of a node's execution; `prices` are those of `settings.toml`."""
    response = event.response
    operation = response.get("code")
    return _present(
        {
            "dbt.invocation_id": event.invocation_id,
            "dbt.unique_id": event.unique_id,
            "dbt.resource_type": event.resource_type,
            "dbt.status": event.status,
            "dbt.failures": event.failures,
            **{f"dbt.{name}": value for name, value in volumes(response, prices).items()},
            "db.operation.name": None if operation in NO_OPERATIONS else operation,
        }
    )


def error_type(outcome: Outcome, message: str | None, error: str | None = None) -> str:
    """Return the kind of a failure, one of few: dbt's own term, such as `Database Error`, if its message has one.

    Otherwise it is `error`, the class of the exception, if that is not dagster-dbt's.
    """
    if match := ERROR.match(message or ""):
        return match[1]
    return error if error and error != DBT_ERROR else f"dbt.{outcome}"


def statement_attributes(statement: Statement, attributes: Attributes) -> Attributes:
    """Return the attributes of a statement, with its text cut at `SQL_CHARACTERS`."""
    return {
        **attributes,
        **_present(
            {
                "db.query.text": statement.text[:SQL_CHARACTERS],
                "db.operation.name": statement.operation,
                "dbt.query_id": statement.query_id,
            }
        ),
    }


def statements(events: list[Mapping[str, Any]], failed_at: datetime | None = None) -> Iterator[Statement]:
    """Yield the statements of a node from its `SQLQuery` and `SQLQueryStatus` events in dbt's debug log.

    `failed_at` is the end of a node that has failed. Its last statement failed as well if it has no status: dbt logs a
    status only for statements that succeed.
    """
    open_query: Mapping[str, Any] | None = None
    opened_at = failed_at
    for event in events:
        data, at = event["data"], parse_time(event["info"]["ts"])
        if event["info"]["name"] == "SQLQuery":
            open_query, opened_at = data, at
        elif open_query is not None:
            yield Statement(
                text=str(open_query["sql"]),
                started_at=at - timedelta(seconds=float(data.get("elapsed") or 0)),
                finished_at=at,
                query_id=data.get("query_id") or None,
            )
            open_query = None
    if open_query is not None and opened_at is not None and failed_at is not None:
        yield Statement(text=str(open_query["sql"]), started_at=opened_at, finished_at=failed_at, has_failed=True)


def _present(values: Mapping[str, Any]) -> dict[str, str | int | float | bool]:
    return {name: value for name, value in values.items() if isinstance(value, str | int | float) and value != ""}
