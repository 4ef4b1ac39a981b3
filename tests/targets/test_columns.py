"""Tests of column lineage in the events of a build on a running engine, for models with each set operation."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tools.engines.project import Project
from tools.receiver import receiver

EUROPE = "select country_code, country_name from {{ ref('countries') }} where region = 'Europe'"
REST = "select country_code, country_name from {{ ref('countries') }} where region <> 'Europe'"
# BigQuery wants the word that the others may leave out.
DISTINCT = "{{ 'distinct' if target.type == 'bigquery' }}"
OPERATIONS = {
    "set_union": f"{EUROPE} union {DISTINCT} {REST}",
    "set_union_all": f"{EUROPE} union all {REST}",
    "set_intersect": f"{EUROPE} intersect {DISTINCT} {EUROPE}",
    "set_except": f"{EUROPE} except {DISTINCT} {REST}",
}


@pytest.fixture
def ends(running_project: Project) -> Iterator[dict[str, Any]]:
    """Build the models through Dagster; return the dataset that each COMPLETE event says was written."""
    models = running_project.root / "dbt" / "models"
    for name, sql in OPERATIONS.items():
        (models / f"{name}.sql").write_text("{{ config(materialized='table') }}\n" + sql + "\n")
    with receiver() as server:
        done = running_project.run(
            "dg", "launch", "--assets", f"countries,{','.join(OPERATIONS)}", changed={"OPENLINEAGE_URL": server.url}
        )
    assert 0 == done.returncode, done.stdout
    yield {
        event["job"]["name"].rpartition(".")[2]: event["outputs"][0]
        for event in server.events
        if event["eventType"] == "COMPLETE" and event.get("outputs")
    }
    for name in OPERATIONS:
        (models / f"{name}.sql").unlink()


def test_set_operations(ends: dict[str, Any]) -> None:
    """Each set operation has its two columns, each from the column of that name, whatever the engine's case."""
    for name in OPERATIONS:
        facets = ends[name]["facets"]
        assert ["country_code", "country_name"] == [field["name"].lower() for field in facets["schema"]["fields"]]
        origins = {
            column.lower(): {origin["field"].lower() for origin in field["inputFields"] if direct(origin)}
            for column, field in facets["columnLineage"]["fields"].items()
        }
        assert {"country_code": {"country_code"}, "country_name": {"country_name"}} == origins
        assert {"region"} <= {origin["field"].lower() for origin in facets["columnLineage"]["dataset"]}
        tables = {re.split(r"[.]", origin["name"].lower())[-1] for origin in facets["columnLineage"]["dataset"]}
        assert {"countries"} == tables


def direct(origin: dict[str, Any]) -> bool:
    """Say whether a column's values are made of an origin, which otherwise only decides on them."""
    return any(step["type"] == "DIRECT" for step in origin["transformations"])
