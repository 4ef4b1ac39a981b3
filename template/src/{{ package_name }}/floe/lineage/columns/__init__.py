"""Column lineage: the columns from which a model's columns are computed, read from its SQL with sqlglot.

In: compiled SQL, its dialect, and the columns of the tables that it may read. Out: the columns of its result and the
origins of each, in the terms of https://openlineage.io/docs/spec/facets/dataset-facets/column_lineage_facet. The result
states only what the SQL itself proves. Whatever cannot be followed is marked as unknown, never guessed.

In the order of the data flow: `parsing.py` (SQL), `tables.py` (known tables of the warehouse), `from_clause.py`
and `pivots.py` (FROM), `select_list.py` with `values.py` (the columns), `meanings.py` (the names in them), `clauses.py`
(the rows), `queries.py` (set operations, whole queries). `relation.py` has the data that these exchange, `names.py`
the naming rules of each engine, `functions.py` those functions of each engine that sqlglot does not know,
`data_types.py` the certain data types, and `model.py` the result.

`schemas.py` has the columns of a run's tables. `hooks.py`, `kept_tables.py`, `materializations.py` and `snapshots.py`
decide how far a table has those of its SQL, and `cache.py` keeps what earlier runs have built.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from sqlglot import exp

from .model import ColumnLineage, Origin, QueryLineage, TableColumns
from .names import Names, fold
from .parsing import parsed
from .queries import Reader
from .relation import Relation, Scope

__all__ = ["ColumnLineage", "Origin", "QueryLineage", "TableColumns", "fold", "read_query"]


def read_query(sql: str, dialect: str, tables: Mapping[str, TableColumns]) -> QueryLineage:
    """Return the lineage of `sql`, a single query; the keys of `tables` are the tables' names in the SQL.

    If reading fails, nothing is known about this query, and its `problem` gives the reason.
    """
    try:
        names = Names(dialect)
        tree = parsed(sql, names)
        if not isinstance(tree, exp.Query | exp.Values | exp.Pivot):
            return QueryLineage(problem=f"a statement of kind {tree.key} is not a query")
        reader = Reader(tables, dialect)
        relation = reader.query(tree, Scope(reader.names, {}))
    except Exception as error:  # from sqlglot or this package: users' SQL can be anything
        return QueryLineage(problem=str(error).splitlines()[0][:200] if str(error) else type(error).__name__)
    return _result(relation, reader.names, tuple(reader.tables.open))


def _result(relation: Relation, names: Names, open_tables: tuple[str, ...]) -> QueryLineage:
    # A table cannot have two columns with one name, so a duplicate name is unreliable.
    twice = names.duplicates(column.name for column in relation.columns)
    columns = {
        c.name: replace(c.lineage, built=False, fields=())
        for c in relation.columns
        if c.name and names.key(c.name) not in twice
    }
    complete = relation.complete and len(columns) == len(relation.columns)
    result = QueryLineage(columns, relation.rows, complete, relation.rows_known, relation.in_order)
    is_whole = complete and result.rows_known and not result.left_out
    return result if is_whole else replace(result, open_tables=open_tables)
