"""The assertion facets: the result of a dbt test on the tables that it reads.

The facets are standard and placed as the specification requires: assertions and metrics belong to the *input* of a
run (https://openlineage.io/docs/spec/facets/dataset-facets/input-dataset-facets/data_quality_assertions), the
execution of a test belongs to the run.
"""

from __future__ import annotations

from typing import Any

from openlineage.client.facet_v2 import (
    InputDatasetFacet,
    RunFacet,
    data_quality_assertions_dataset,
    data_quality_metrics_input_dataset,
    test_run,
)

from ..dbt.manifest_graph import TEST_TYPES, Node
from ..dbt.node_events import NodeFinished

# The statuses of a test or freshness check that came to a result. With any other status it could not be run.
CONCLUSIVE = {"pass", "fail", "warn"}
FRESHNESS = {**dict.fromkeys(CONCLUSIVE, True), "error": True}


def input_facets(node: Node, event: NodeFinished, table: Node) -> dict[str, InputDatasetFacet]:
    """Return the facets of `table`, an input of a check, that follow from the check's end."""
    if node["resource_type"] == "source" and event.status in FRESHNESS:
        return {"dataQualityAssertions": _facet(_freshness(event))}
    if node["resource_type"] != "test" or event.status not in CONCLUSIVE:
        return {}
    if (node.get("attached_node") or table["unique_id"]) != table["unique_id"]:
        return {}
    facets: dict[str, InputDatasetFacet] = {"dataQualityAssertions": _facet(_assertion(node, event))}
    if (nulls := _nulls(node, event)) is not None:
        facets["dataQualityMetrics"] = nulls
    return facets


def run_facets(node: Node, event: NodeFinished) -> dict[str, RunFacet]:
    """Return the execution of a test as a facet of its run; its SQL is in the job."""
    if node["resource_type"] not in TEST_TYPES:
        return {}
    is_conclusive = event.status in CONCLUSIVE
    status = ("pass" if event.status == "pass" else "fail") if is_conclusive else "skip"
    test = test_run.TestExecution(
        name=event.unique_id,
        status=status,
        severity=_severity(node),
        type=_type(node),
        description=node.get("description") or None,
        expected=_expected(node) if is_conclusive else None,
        actual=_actual(event) if is_conclusive else None,
        params=_parameters(node),
    )
    return {"test": test_run.TestRunFacet(tests=[test])}


def _facet(assertion: data_quality_assertions_dataset.Assertion) -> InputDatasetFacet:
    return data_quality_assertions_dataset.DataQualityAssertionsDatasetFacet(assertions=[assertion])


def _assertion(node: Node, event: NodeFinished) -> data_quality_assertions_dataset.Assertion:
    return data_quality_assertions_dataset.Assertion(
        assertion=_type(node) if node.get("test_metadata") else node["name"],
        success=event.status == "pass",
        column=_column(node),
        severity=_severity(node),
        name=node["name"],
        description=node.get("description") or None,
        expected=_expected(node),
        actual=_actual(event),
        params=_parameters(node),
    )


def _freshness(event: NodeFinished) -> data_quality_assertions_dataset.Assertion:
    return data_quality_assertions_dataset.Assertion(
        assertion="freshness",
        success=event.status == "pass",
        severity="warn" if event.status == "warn" else "error",
        name=event.unique_id,
    )


def _nulls(node: Node, event: NodeFinished) -> InputDatasetFacet | None:
    """Return the number of nulls that a `not_null` test found, if it tested all rows."""
    config, column = node.get("config", {}), _column(node)
    narrowed = config.get("where") or config.get("limit") or config.get("fail_calc", "count(*)") != "count(*)"
    if _type(node) != "not_null" or column is None or narrowed or event.failures is None:
        return None
    metrics = data_quality_metrics_input_dataset
    return metrics.DataQualityMetricsInputDatasetFacet(
        columnMetrics={column: metrics.ColumnMetrics(nullCount=event.failures)}
    )


def _type(node: Node) -> str:
    if node["resource_type"] == "unit_test":
        return "unit_test"
    return str((node.get("test_metadata") or {}).get("name") or "singular")


def _column(node: Node) -> str | None:
    named = node.get("column_name") or (node.get("test_metadata") or {}).get("kwargs", {}).get("column_name")
    return str(named) if named else None


def _severity(node: Node) -> str:
    return str(node.get("config", {}).get("severity") or "error").lower()


def _expected(node: Node) -> str:
    config = node.get("config", {})
    threshold = str(config.get("warn_if" if _severity(node) == "warn" else "error_if") or "!= 0")
    return "0" if threshold.replace(" ", "") == "!=0" else threshold


def _actual(event: NodeFinished) -> str | None:
    return None if event.failures is None else str(event.failures)


def _parameters(node: Node) -> dict[str, Any]:
    arguments = (node.get("test_metadata") or {}).get("kwargs", {})
    return {name: value for name, value in arguments.items() if name not in {"model", "column_name"}}
