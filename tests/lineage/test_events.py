"""Tests of the events of recorded commands: runs, inputs, outputs and facets, by the OpenLineage specification."""

from __future__ import annotations

import copy
import json
import re
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from openlineage.client.serde import Serde
from pipeline.floe.lineage.event_json import as_json

from tests.lineage.replay import CONNECTIONS, PRODUCER, RECORDED, RECORDINGS, RUN_ID, lines, of, replay, run_events
from tools.spec import MISSING, SPEC, Event, claim_problems, cycle_problems, problems, schema_problems

pytestmark = pytest.mark.skipif(not RECORDINGS, reason=f"nothing is recorded in {RECORDED.name}")
BUILT = {"model", "seed", "snapshot"}
FAILED = "FAILURE: dbt ended with exit code 1"


@pytest.fixture(params=RECORDINGS)
def target(request: pytest.FixtureRequest) -> str:
    """Return each target whose build is recorded."""
    return str(request.param)


@pytest.fixture
def events(target: str) -> list[Event]:
    """Return the events of a target's recorded build; do not change them."""
    return recorded(target)


@cache
def recorded(target: str) -> list[Event]:
    """Return the events of a target's recorded build, made once."""
    return replay(target, message=FAILED)


def facets(dataset: dict[str, Any]) -> dict[str, Any]:
    """Return a dataset's facets without what all facets have."""
    return {
        key: {name: value for name, value in facet.items() if not name.startswith("_")}
        for key, facet in dataset["facets"].items()
    }


@pytest.mark.skipif(not SPEC.is_dir(), reason=MISSING)
def test_valid(events: list[Event]) -> None:
    """Each event of each recorded engine is valid, with each facet in its place."""
    assert [] == problems(events)


def test_as_json(target: str) -> None:
    """An event reads as OpenLineage's own client would write it."""
    made = run_events(target, message=FAILED)
    assert [json.loads(Serde.to_json(event)) for event in made] == [json.loads(as_json(event)) for event in made]


def test_producer(events: list[Event]) -> None:
    """Each event and each facet names the producer of settings.toml, which a fork sets in that one place."""
    facets = re.findall(r'"_producer": "([^"]*)"', json.dumps(events))

    assert {PRODUCER} == {event["producer"] for event in events} == set(facets)


def test_runs(events: list[Event]) -> None:
    """Each run starts once and ends once, and what it claims can be so."""
    assert [] == cycle_problems(events) + claim_problems(events)


def test_executed(events: list[Event], target: str) -> None:
    """What dbt's own results list ran, and nothing else, with the Dagster run and the command above it."""
    results = {
        line["data"]["node_info"]["unique_id"]: line["data"]["run_result"]["status"]
        for line in lines(RECORDED / target / "debug_log.jsonl")
        if line["data"]["node_info"]["resource_type"] != "exposure"
        and line["data"]["node_info"]["materialized"] != "ephemeral"
    }
    state = {"error": "FAIL", "fail": "FAIL", "skipped": "ABORT"}

    found = {event["job"]["name"]: event["eventType"] for event in events if event["eventType"] != "START"}

    nodes = {name: state.get(status, "COMPLETE") for name, status in results.items()}
    assert nodes | {"dbt.shop": "FAIL", "daily": "FAIL"} == found


def test_tree(events: list[Event]) -> None:
    """Each node's parent is the command, the command's the Dagster run, which is the root of all."""
    names: Counter[tuple[str, str]] = Counter()
    for event in events:
        parent = event["run"]["facets"].get("parent")
        if parent:
            kind = event["job"]["name"].partition(".")[0]
            names[kind if kind == "dbt" else "node", parent["job"]["name"]] += 1
            assert RUN_ID == parent["root"]["run"]["runId"]

    assert {("dbt", "daily"), ("node", "dbt.shop")} == set(names)


def test_names(events: list[Event], target: str) -> None:
    """All tables of a run are in the target's namespace, and models of one project are one graph."""
    inputs = {(each["namespace"], each["name"]) for event in events for each in event["inputs"]}
    outputs = {(each["namespace"], each["name"]) for event in events for each in event["outputs"]}

    assert {CONNECTIONS[target][1]} == {namespace for namespace, _ in inputs | outputs}
    # The recorded build fails on purpose: what failed is read by nobody, and what is read was written.
    assert {name for _, name in inputs} - {name for _, name in outputs} <= {
        name for _, name in inputs if name.rpartition(".")[2].lower() in {"broken", "payments_export"}
    }


def test_seed_is_source(events: list[Event]) -> None:
    """A source that lies in a seed's table is that table: one dataset, with the seed's facets."""
    _, seed = of(events, "seed.shop.payments_export")
    _, staged = of(events, "model.shop.stg_payments")

    assert [seed["outputs"][0]["name"]] == [each["name"] for each in staged["inputs"]]
    assert facets(seed["outputs"][0])["ownership"] == facets(staged["inputs"][0])["ownership"]


def test_through_ephemeral(events: list[Event]) -> None:
    """A model reads what an ephemeral one between reads; the ephemeral one is no dataset."""
    _, orders = of(events, "model.shop.orders")

    assert {"stg_orders", "stg_payments"} == {each["name"].rpartition(".")[2].lower() for each in orders["inputs"]}


def test_failure(events: list[Event]) -> None:
    """A failed model tells dbt's message and where its compiled SQL is, and claims no output."""
    _, broken = of(events, "model.shop.broken")
    message = broken["run"]["facets"]["errorMessage"]["message"]

    assert "FAIL" == broken["eventType"]
    assert [] == broken["outputs"]
    assert "no_such_column" in message.lower()
    assert "broken.sql" in message


def test_skipped(events: list[Event]) -> None:
    """A skipped model is aborted, and says for which other."""
    _, skipped = of(events, "model.shop.after_broken")

    assert "ABORT" == skipped["eventType"]
    assert "dbt skipped this node: model.shop.broken failed" == (skipped["run"]["facets"]["errorMessage"]["message"])


def test_check(events: list[Event]) -> None:
    """A test's finding stands as an input facet of the table that it is attached to, with its column."""
    name = next(e["job"]["name"] for e in events if e["job"]["name"].startswith("test.shop.not_null_orders_order_id"))
    _, test = of(events, name)
    (table,) = test["inputs"]
    (assertion,) = table["inputFacets"]["dataQualityAssertions"]["assertions"]

    assert ("not_null", True, "order_id") == (assertion["assertion"], assertion["success"], assertion["column"])
    assert ("error", "0", "0") == (assertion["severity"], assertion["expected"], assertion["actual"])
    assert 0 == table["inputFacets"]["dataQualityMetrics"]["columnMetrics"]["order_id"]["nullCount"]


def test_warning(events: list[Event]) -> None:
    """A test that warns completes; its assertion has not held."""
    _, test = of(events, "test.shop.warns")
    (assertion,) = test["inputs"][0]["inputFacets"]["dataQualityAssertions"]["assertions"]

    assert "COMPLETE" == test["eventType"]
    assert (False, "warn") == (assertion["success"], assertion["severity"])


def test_unit_test(events: list[Event]) -> None:
    """A unit test reads no table: its rows stand in the project."""
    found = [event for event in events if event["job"]["name"].startswith("unit_test.")]

    assert all([] == event["inputs"] == event["outputs"] for event in found)


def test_column_lineage(events: list[Event]) -> None:
    """Each column of a model that is made of others says which, on every engine."""
    _, orders = of(events, "model.shop.orders")
    fields = orders["outputs"][0]["facets"]["columnLineage"]["fields"]
    found = {
        name.lower(): sorted(
            f"{each['name'].rpartition('.')[2]}.{each['field']} {step['subtype']}".lower()
            for each in field["inputFields"]
            for step in each["transformations"]
        )
        for name, field in fields.items()
    }

    assert ["stg_orders.order_id identity"] == found["order_id"]
    assert ["stg_orders.amount_cents transformation"] == found["gross_amount"]
    assert [
        "stg_payments.amount_cents aggregation",
        "stg_payments.payment_method conditional",
        "stg_payments.payment_status conditional",
    ] == found["net_amount"]


def test_schema(events: list[Event]) -> None:
    """A table's schema is that of its SQL, in its order, and each classified column is one of it."""
    _, customers = of(events, "model.shop.customers")
    table = customers["outputs"][0]["facets"]
    names = [field["name"] for field in table["schema"]["fields"]]

    assert list(range(1, len(names) + 1)) == [field["ordinal_position"] for field in table["schema"]["fields"]]
    assert ["customer_id", "full_name", "email"] == [name.lower() for name in names[:3]]
    assert set(table["floe_columnClassification"]["classifications"]) <= set(names)
    assert set(table["floe_columnClassification"]["classifications"]) == {
        tag["field"] for tag in table["tags"]["tags"] if tag.get("field")
    }


def test_no_secret(events: list[Event]) -> None:
    """The variables of the command line do not leave."""
    start, _ = of(events, "dbt.shop")
    parameters = start["run"]["facets"]["executionParameters"]["parameters"]

    assert {"command": "build", "vars": "[hidden]"} == {each["key"]: each["value"] for each in parameters}


def test_nothing_learnt_twice(target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an unchanged project no SQL is read again, and the events are the same."""
    from pipeline.floe.lineage.columns import schemas

    first = replay(target, kept=tmp_path / "columns.json", message=FAILED)

    def refuse(*_: Any) -> None:
        pytest.fail("SQL was read again")

    monkeypatch.setattr(schemas, "read_query", refuse)
    second = replay(target, kept=tmp_path / "columns.json", message=FAILED)

    assert [e["outputs"] for e in first] == [e["outputs"] for e in second]


def test_same_twice(target: str) -> None:
    """A node's run has the same id whenever its events are made: sending them again changes nothing."""
    first, second = recorded(target), replay(target, message=FAILED)

    assert {e["job"]["name"]: e["run"]["runId"] for e in first} == {e["job"]["name"]: e["run"]["runId"] for e in second}


def cut(target: str, until: str) -> list[dict[str, Any]]:
    """Return dbt's events up to the start of a node."""
    raws = lines(RECORDED / target / "events.jsonl")
    last = next(i for i, raw in enumerate(raws) if (raw["data"].get("node_info") or {}).get("unique_id") == until)
    return raws[: last + 1]


def test_dbt_dies() -> None:
    """With dbt killed in the middle, all that was open fails."""
    events = replay("duckdb", raws=cut("duckdb", "model.shop.orders"), message="killed by signal 9")

    assert [] == cycle_problems(events) + claim_problems(events)
    assert {"model.shop.orders", "dbt.shop", "daily"} <= {e["job"]["name"] for e in events if e["eventType"] == "FAIL"}


def test_interrupted() -> None:
    """With the run cancelled in the middle, all that was open is aborted."""
    events = replay("duckdb", raws=cut("duckdb", "model.shop.orders"), message="cancelled", interrupted=True)

    assert [] == cycle_problems(events) + claim_problems(events)
    assert {"model.shop.orders", "dbt.shop", "daily"} <= {e["job"]["name"] for e in events if e["eventType"] == "ABORT"}


def test_dbt_says_nothing() -> None:
    """With dbt dead before its first word, the command still starts and fails."""
    events = replay("duckdb", raws=[], message="no dbt on PATH")

    assert ["START", "START", "FAIL", "FAIL"] == [event["eventType"] for event in events]


def test_parent_from_outside() -> None:
    """A parent given by Airflow or the like is the Dagster run's, and the root is that parent's."""
    parent, root = "0192f0b5-0a2f-7f4d-9a5e-000000000001", "0192f0b5-0a2f-7f4d-9a5e-000000000002"
    environment = {
        "OPENLINEAGE_PARENT_ID": f"airflow://prod/daily.build/{parent}",
        "OPENLINEAGE_ROOT_PARENT_ID": f"airflow://prod/daily/{root}",
    }
    events = replay("duckdb", environment=environment)
    above = of(events, "daily")[0]["run"]["facets"]["parent"]

    assert ("airflow://prod", "daily.build") == (above["job"]["namespace"], above["job"]["name"])
    assert parent == above["run"]["runId"]
    assert {root} == {event["run"]["facets"]["parent"]["root"]["run"]["runId"] for event in events}


def misplace(events: list[Event]) -> None:
    """Put an assertion where dbt-ol has it."""
    table = of(events, "test.shop.warns")[1]["inputs"][0]
    table["facets"]["dataQualityAssertions"] = table["inputFacets"].pop("dataQualityAssertions")


MUTATIONS: dict[str, Callable[[list[Event]], object]] = {
    "an end is missing": lambda events: events.pop(),
    "a start is missing": lambda events: events.pop(0),
    "an end stands twice": lambda events: events.append(events[-1]),
    "a start follows its end": lambda events: events.insert(len(events), events.pop(2)),
    "a time has no zone": lambda events: events[3].update(eventTime="2026-11-23 04:00"),
    "a run id is no UUID": lambda events: [e["run"].update(runId="7") for e in events if e["job"]["name"] == "daily"],
    "an assertion lies among the dataset's facets": misplace,
    "a facet lacks what it must have": lambda events: events[3]["run"]["facets"]["processing_engine"].pop("version"),
    "a facet is nobody's": lambda events: events[3]["run"]["facets"].update(
        mood={"_producer": "https://a.example", "_schemaURL": "https://a.example"}
    ),
    "a failure claims an output": lambda events: of(events, "model.shop.broken")[1].update(
        outputs=[{"namespace": "n", "name": "broken", "facets": {}}]
    ),
    "a test claims an output": lambda events: of(events, "test.shop.warns")[1].update(
        outputs=[{"namespace": "n", "name": "audit", "facets": {}}]
    ),
    "an input stands twice": lambda events: of(events, "model.shop.orders")[1]["inputs"].append(
        of(events, "model.shop.orders")[1]["inputs"][0]
    ),
    "a column is of a table that was not read": lambda events: of(events, "model.shop.orders")[1]["outputs"][0][
        "facets"
    ]["columnLineage"]["fields"]["order_id"]["inputFields"][0].update(name="o"),
    "a failure is silent": lambda events: of(events, "model.shop.broken")[1]["run"]["facets"].pop("errorMessage"),
}


@pytest.mark.skipif(not SPEC.is_dir(), reason=MISSING)
@pytest.mark.parametrize("mutation", MUTATIONS.values(), ids=MUTATIONS.keys())
def test_mutation(mutation: Callable[[list[Event]], object]) -> None:
    """A fault planted in valid events is found."""
    events = copy.deepcopy(recorded("duckdb"))
    mutation(events)

    # What it does not touch is valid: `test_valid`.
    changed = [event for event in events if event not in recorded("duckdb")]

    assert schema_problems(changed) + cycle_problems(events) + claim_problems(events)
