"""Tests of each target's sample project, built twice through Dagster on its engine, and of the resulting tables.

Between the builds the data change: an order on a new day, a refund for an older order, a customer in another tier.
"""

from __future__ import annotations

import csv
import json
import re
import time
from collections import Counter
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import pytest

from tools.engines import Rows
from tools.engines.project import Project

MARTS = ("orders", "customers", "daily_revenue", "customer_cohorts")
NEW_DAY = "2026-07-01"
NEW_ORDER = ["9001", "1", NEW_DAY, "web", "completed", "5000"]
CUSTOMER = "2"


@dataclass(frozen=True)
class State:
    """What a build took, and what the engine held after it."""

    seconds: float
    counted: str
    rows: dict[str, int]
    days: dict[str, tuple[Decimal, ...]]
    versions: Rows
    all_versions: int


@dataclass(frozen=True)
class Built:
    """A project after both builds; `refunded_on` is the day of the order that the refund was for."""

    project: Project
    seeds: dict[str, int]
    refunded_on: str
    first: State
    second: State


@pytest.fixture(scope="session")
def built(running_project: Project, request: pytest.FixtureRequest) -> Built:
    """Build, change the data, build again, and write the row of the table of results."""
    started = time.monotonic()
    seeds = running_project.root / "dbt" / "seeds"
    counts = {file.stem: len(read(file)) for file in seeds.glob("*.csv")}
    first = build(running_project)
    refunded_on = change(seeds)
    second = build(running_project)
    if folder := request.config.getoption("--rows"):
        engine = running_project.engine
        row = {
            "target": running_project.target,
            "engine": engine.title,
            "version": engine.version(),
            "is": "real" if engine.real else "stand-in",
            "nodes": re.findall("TOTAL=([0-9]+)", second.counted)[0],
            "first build": f"{first.seconds:.0f} s",
            "second build": f"{second.seconds:.0f} s",
            "total": f"{time.monotonic() - started:.0f} s",
        }
        (folder / f"{running_project.target}.json").write_text(json.dumps(row))
    return Built(running_project, counts, refunded_on, first, second)


def test_every_node_is_built(built: Built) -> None:
    """Both builds run every node of the project, save what the engine's module excludes with a reason."""
    manifest = json.loads((built.project.root / "dbt" / "target" / "manifest.json").read_text())
    nodes = [*manifest["nodes"].values(), *manifest["unit_tests"].values(), *manifest["exposures"].values()]
    types = Counter(node["resource_type"] for node in nodes if node["config"].get("materialized") != "ephemeral")
    total = sum(count for name, count in types.items() if name not in built.project.engine.excluded)
    expected = f"PASS={total - 1} WARN=0 ERROR=0 SKIP=0 NO-OP=1 TOTAL={total}"  # the exposure is no operation

    assert [expected, expected] == [built.first.counted, built.second.counted]


def test_first_build_fills_the_marts(built: Built) -> None:
    """One row an order, a customer and a day: the engine has what the seeds hold."""
    rows = built.first.rows

    assert (built.seeds["raw_orders"], built.seeds["raw_customers"]) == (rows["orders"], rows["customers"])
    assert len(built.first.days) == rows["daily_revenue"]
    assert sum(day[0] for day in built.first.days.values()) == built.seeds["raw_orders"]
    assert rows["customer_cohorts"] > 0


def test_second_build_adds_one_day_and_changes_one(built: Built) -> None:
    """The incremental model adds the day of the new order, changes the refund's, and leaves the others alone."""
    before, after = built.first.days, built.second.days
    count, cancelled, discount, refunded, net = before[built.refunded_on]

    assert {
        NEW_DAY: tuple(map(Decimal, ("1", "0", "0", "0", "50"))),
        built.refunded_on: (count, cancelled, discount, refunded + 1, net - 1),
    } == {day: row for day, row in after.items() if before.get(day) != row}
    assert before.keys() | {NEW_DAY} == after.keys()
    assert len(after) == built.second.rows["daily_revenue"]


def test_second_build_adds_one_version(built: Built) -> None:
    """The snapshot closes the customer's version and adds one; no other customer gets any."""
    assert [("bronze", "current")] == built.first.versions
    assert [("bronze", "closed"), ("gold", "current")] == built.second.versions
    assert (built.seeds["raw_customers"], 1) == (
        built.first.all_versions,
        built.second.all_versions - built.first.all_versions,
    )


def build(project: Project) -> State:
    """Build everything through Dagster and read what the engine then holds."""
    started = time.monotonic()
    done = project.materialize()
    seconds = time.monotonic() - started
    assert done.returncode == 0, done.stdout[-8000:]
    counted = re.findall(r"Done\. (PASS.*TOTAL=\d+)", done.stdout)[-1]

    counts = " union all ".join(f"select '{name}', count(*) from {{0}}{name}" for name in MARTS)
    days = project.query(
        "select ordered_on, order_count, cancelled_order_count, discount_amount, refunded_amount, net_amount"
        " from {0}daily_revenue"
    )
    return State(
        seconds=seconds,
        counted=counted,
        rows={str(name): int(str(count)) for name, count in project.query(counts)},
        days={str(day): tuple(Decimal(str(value)) for value in values) for day, *values in days},
        versions=project.query(
            "select loyalty_tier, case when dbt_valid_to is null then 'current' else 'closed' end"
            f" from {{0}}customer_history where customer_id = {CUSTOMER} order by dbt_valid_from"
        ),
        all_versions=int(str(project.query("select count(*) from {0}customer_history")[0][0])),
    )


def change(seeds: Path) -> str:
    """Change the seeds as the module says; return the day of the order that is refunded."""
    orders, payments, customers = (seeds / f"{name}.csv" for name in ("raw_orders", "payments_export", "raw_customers"))
    order_id, _, refunded_on, *_ = [row for row in read(orders) if row[4] == "completed"][-1]
    append(orders, NEW_ORDER)
    append(payments, ["90001", NEW_ORDER[0], "card", "captured", NEW_ORDER[5], NEW_DAY])
    append(payments, ["90002", order_id, "card", "refunded", "100", NEW_DAY])
    text = customers.read_text()
    changed = re.sub(rf"(?m)^({CUSTOMER},.*),bronze,", r"\1,gold,", text)
    assert text != changed
    customers.write_text(changed)
    return refunded_on


def read(file: Path) -> list[list[str]]:
    """Return the rows of a seed without its header."""
    with file.open(newline="") as lines:
        return list(csv.reader(lines))[1:]


def append(file: Path, row: list[str]) -> None:
    """Add a row to a seed."""
    with file.open("a") as lines:
        lines.write(",".join(row) + "\n")
