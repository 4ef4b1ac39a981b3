"""fakesnow's server with three gaps closed that dbt-snowflake meets: `fakesnow_server.py PORT`, in its environment.

Seen with fakesnow 0.12.1, each without an error that says so; a later version may not need the patch.
"""

from __future__ import annotations

import sys
from typing import Any

import duckdb
from fakesnow.cli import main
from fakesnow.cursor import FakeSnowflakeCursor
from sqlglot import exp

original_transform = FakeSnowflakeCursor._transform
original_transform_explode = FakeSnowflakeCursor._transform_explode
original_execute = FakeSnowflakeCursor._execute


def permanent(create: exp.Create) -> None:
    """Make a temporary table with a qualified name an ordinary one: DuckDB has those in a catalog of their own.

    dbt drops its temporary tables itself.
    """
    table = create.this.this if isinstance(create.this, exp.Schema) else create.this
    properties = create.args.get("properties")
    if properties and isinstance(table, exp.Table) and table.db:
        kept = [each for each in properties.expressions if not isinstance(each, exp.TemporaryProperty)]
        create.set("properties", exp.Properties(expressions=kept) if kept else None)


def qualify_inserted(merge: exp.Merge) -> None:
    """Qualify the bare columns of `when not matched then insert … values (…)`: they are the source's."""
    source = merge.args["using"].alias_or_name
    for when in merge.find_all(exp.When):
        then = when.args.get("then")
        if isinstance(then, exp.Insert) and then.expression is not None:
            for column in list(then.expression.find_all(exp.Column)):
                if not column.table:
                    column.set("table", exp.to_identifier(source))


def prepared(expression: exp.Expression) -> exp.Expression:
    """Return a statement, changed in place, as fakesnow can take it."""
    if isinstance(expression, exp.Create):
        permanent(expression)
    elif isinstance(expression, exp.Merge):
        qualify_inserted(expression)
    return expression


def execute(cursor: FakeSnowflakeCursor, *arguments: Any, **named: Any) -> None:
    """Run a statement; after an error within a transaction Snowflake goes on where DuckDB refuses everything.

    Unpatched the server answers 500 for ever, and the driver repeats the request for minutes.
    """
    try:
        original_execute(cursor, *arguments, **named)
    except duckdb.TransactionException as error:
        if "aborted" not in str(error):
            raise
        cursor._duck_conn.execute("ROLLBACK")
        original_execute(cursor, *arguments, **named)


if __name__ == "__main__":
    FakeSnowflakeCursor._transform = lambda cursor, expression, *rest: original_transform(
        cursor, prepared(expression), *rest
    )
    FakeSnowflakeCursor._transform_explode = lambda cursor, expression, *rest: original_transform_explode(
        cursor, prepared(expression), *rest
    )
    FakeSnowflakeCursor._execute = execute
    sys.exit(main(["--server", "--port", sys.argv[1]]))
