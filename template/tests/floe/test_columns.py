"""Column lineage: which columns a query yields, and what each is made of."""

from __future__ import annotations

import pytest

from .package import Origin, TableColumns, read_query

TABLES = {
    "orders": TableColumns({"id": "INT", "customer_id": "INT", "amount": "DECIMAL", "status": "TEXT", "day": "DATE"}),
    "customers": TableColumns({"id": "INT", "name": "TEXT", "email": "TEXT"}),
}
# SQL -> its columns, each with its origins; the columns that decide which rows there are stand under "".
CASES = {
    "select id from orders": {"id": "orders.id IDENTITY"},
    "select id as order_id, amount / 100 as euros from orders": {
        "order_id": "orders.id IDENTITY",
        "euros": "orders.amount TRANSFORMATION",
    },
    "select * from customers": {
        "id": "customers.id IDENTITY",
        "name": "customers.name IDENTITY",
        "email": "customers.email IDENTITY",
    },
    "select * exclude (email, name) from customers": {"id": "customers.id IDENTITY"},
    "select o.id, c.name from orders o join customers c on o.customer_id = c.id": {
        "id": "orders.id IDENTITY",
        "name": "customers.name IDENTITY",
        "": "customers.id JOIN, orders.customer_id JOIN",
    },
    "select email, amount from orders join customers on customer_id = customers.id": {
        "email": "customers.email IDENTITY",
        "amount": "orders.amount IDENTITY",
        "": "customers.id JOIN, orders.customer_id JOIN",
    },
    "with paid as (select id, amount from orders where status = 'paid') select amount from paid": {
        "amount": "orders.amount IDENTITY",
        "": "orders.status FILTER",
    },
    "select customer_id, sum(amount) as total from orders group by customer_id": {
        "customer_id": "orders.customer_id IDENTITY",
        "total": "orders.amount AGGREGATION",
        "": "orders.customer_id GROUP_BY",
    },
    "select case when status = 'paid' then amount else 0 end as paid from orders": {
        "paid": "orders.amount TRANSFORMATION, orders.status CONDITIONAL",
    },
    "select id from orders union all select id from customers": {
        "id": "customers.id IDENTITY, orders.id IDENTITY",
    },
    "select row_number() over (partition by customer_id order by day) as number from orders": {
        "number": "orders.customer_id WINDOW, orders.day WINDOW",
    },
    "select o.total from (select sum(amount) as total from orders) as o": {"total": "orders.amount AGGREGATION"},
    "select name from customers where id in (select customer_id from orders)": {
        "name": "customers.name IDENTITY",
        "": "customers.id FILTER, orders.customer_id FILTER",
    },
    "select 1 as one, current_date as today from orders": {"one": "", "today": ""},
}


def shown(origins: frozenset[Origin]) -> str:
    """Return origins as one line."""
    return ", ".join(f"{origin.table}.{origin.column} {origin.subtype}" for origin in sorted(origins))


@pytest.mark.parametrize("sql", CASES)
def test_origins(sql: str) -> None:
    """Each column has its true origins, and no other."""
    query = read_query(sql, "duckdb", TABLES)
    found = {name: shown(column.origins) for name, column in query.columns.items()}

    assert found | ({"": shown(query.rows)} if query.rows else {}) == CASES[sql]
    assert (query.complete, query.left_out, query.problem) == (True, [], None)


def test_never_guessed() -> None:
    """Of a table whose columns are not known nothing is stated; what is known of another stays."""
    query = read_query("select orders.id, note from orders, elsewhere", "duckdb", TABLES)

    assert {name: shown(column.origins) for name, column in query.columns.items()} == {"id": "orders.id IDENTITY"}
    assert (query.complete, query.open_tables) == (False, ("elsewhere",))


def test_not_sql() -> None:
    """What is not SQL is a problem that is named, not an error."""
    assert read_query("select from where", "duckdb", TABLES).problem
