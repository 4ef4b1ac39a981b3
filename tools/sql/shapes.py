"""The shapes of SQL for tests of the column reader, from the YAML files in this folder.

A shape is one piece of grammar. Its SQL has placeholders for tables, such as `{orders}`; what holds for one dialect
only stands below `dialects`, and a dialect without the shape below `not_there`, with the reason. Answers are written
`table.column SUBTYPE`, where IDENTITY, TRANSFORMATION and AGGREGATION are direct and the others indirect; DIRECT
stands for TRANSFORMATION or AGGREGATION where it is not certain which. Names stand as SQL has them: without quotes they
are folded as the dialect folds them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parent / "shapes"
# In the order of the table in docs/lineage.md.
DIALECTS = ("duckdb", "postgres", "spark", "databricks", "snowflake", "bigquery", "redshift")
GROUPS = {
    "set_operations": "Set operations",
    "joins": "Joins",
    "stars": "Stars",
    "windows": "Windows",
    "aggregates": "Aggregates",
    "subqueries": "Subqueries and common table expressions",
    "pivots": "PIVOT and UNPIVOT",
    "nested": "Nested data and whole rows",
    "table_functions": "VALUES and table functions",
    "expressions": "Names and expressions",
    "specials": "Only here",
}
ENTITIES = {"id": "integer", "name": "text", "email": "text", "country": "text"}
# The tables, by placeholder: schema and name, and columns with their kinds.
TABLES: dict[str, tuple[str, dict[str, str]]] = {
    "customers": ("shop.customers", ENTITIES),
    "suppliers": ("shop.suppliers", ENTITIES),
    "orders": (
        "shop.orders",
        {"id": "integer", "customer_id": "integer", "amount": "integer", "status": "text", "placed_on": "date"}
        | {"note": "text"},
    ),
    "payments": ("shop.payments", {"id": "integer", "order_id": "integer", "paid": "integer", "method": "text"}),
    "carts": (
        "shop.carts",
        {"id": "integer", "owner": "text", "tags": "list", "address": "struct", "prices": "map"},
    ),
    "old_orders": ("archive.orders", {"id": "integer", "amount": "integer", "status": "text"}),
    "events": ("shop.events", {"id": "integer", "kind": "text", "payload": "text"}),
}
UNDOCUMENTED = {"events"}
# Types by kind of column, as the engine's own tables have them.
TYPES: dict[str, dict[str, str]] = {
    "duckdb": {
        "integer": "INTEGER",
        "text": "VARCHAR",
        "date": "DATE",
        "list": "VARCHAR[]",
        "struct": "STRUCT(city VARCHAR, zip VARCHAR)",
        "map": "MAP(VARCHAR, INTEGER)",
    },
    "postgres": {
        "integer": "integer",
        "text": "text",
        "date": "date",
        "list": "text[]",
        "struct": "shop.address",
        "map": "jsonb",
    },
    "spark": {
        "integer": "int",
        "text": "string",
        "date": "date",
        "list": "array<string>",
        "struct": "struct<city: string, zip: string>",
        "map": "map<string, int>",
    },
}

# What an answer has where its file says nothing.
DEFAULTS: dict[str, Any] = {
    "rows": [],
    "left_out": [],
    "complete": True,
    "rows_known": True,
    "unseen": {},
    "engine": "",
    "problem": None,
}


@dataclass(frozen=True)
class Answer:
    """What is known of a query: see `QueryLineage`.

    Attributes:
        unseen: Direct origins that no change of data can show, each with the reason.
        engine: Why the engine that runs here cannot be asked, if it cannot.
    """

    sql: str
    columns: list[tuple[str, list[str]]]
    rows: list[str]
    left_out: list[str]
    complete: bool
    rows_known: bool
    unseen: Mapping[str, str]
    engine: str
    problem: str | None


@dataclass(frozen=True)
class Shape:
    """A piece of grammar in one dialect.

    Attributes:
        answer: None if the dialect does not have it.
        reason: Why it does not.
    """

    group: str
    name: str
    dialect: str
    answer: Answer | None
    reason: str = ""

    def __str__(self) -> str:
        """Return how a test is called."""
        return f"{self.dialect}: {self.name}"

    @property
    def outcome(self) -> str:
        """Return `right`, `left out` where part of the answer is, or `not there`."""
        if self.answer is None:
            return "not there"
        whole = self.answer.complete and self.answer.rows_known and not self.answer.left_out
        return "right" if whole else "left out"


@cache
def all_shapes() -> list[Shape]:
    """Return each shape in each dialect."""
    return [shape for group in GROUPS for shape in _shapes(group)]


def present() -> list[Shape]:
    """Return each shape in each dialect that has it."""
    return [shape for shape in all_shapes() if shape.answer]


def _shapes(group: str) -> Iterator[Shape]:
    for config in yaml.safe_load((FOLDER / f"{group}.yml").read_text()):
        for dialect in DIALECTS:
            yield _shape(group, config, dialect)


def _shape(group: str, config: Mapping[str, Any], dialect: str) -> Shape:
    reasons = _by_dialect(config.get("not_there", {}))
    if dialect in reasons:
        return Shape(group, config["name"], dialect, None, reasons[dialect])
    of_dialect = _by_dialect(config.get("dialects", {})).get(dialect, {})
    settings: dict[str, Any] = {**DEFAULTS, **config, **of_dialect}
    if "sql" not in settings:
        return Shape(group, config["name"], dialect, None, reasons["others"])
    settings["sql"] = _with_tables(settings["sql"])
    settings["columns"] = [(name, sorted(origins)) for name, origins in settings["columns"].items()]
    settings["rows"] = sorted(settings["rows"])
    answer = Answer(**{field.name: settings[field.name] for field in fields(Answer)})
    return Shape(group, config["name"], dialect, answer)


def _by_dialect(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings by dialect, where a key may name several: `spark databricks`."""
    return {dialect: value for key, value in config.items() for dialect in key.split()}


def _with_tables(sql: str) -> str:
    return re.sub(r"\{(" + "|".join(TABLES) + r")\}", lambda match: TABLES[match[1]][0], sql).strip()
