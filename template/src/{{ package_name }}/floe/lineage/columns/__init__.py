"""Column lineage: the columns that a model's SQL is made of, read with sqlglot.

In: compiled SQL, its dialect, and the columns of the tables that it may read. Out: the columns that it yields and
where each comes from, as https://openlineage.io/docs/spec/facets/dataset-facets/column_lineage_facet has it. Only
what the SQL itself proves is stated: what cannot be followed is marked as such, never guessed.

In the order that data flows: `parsing.py` (SQL), `tables.py` (what is known of the warehouse), `sources.py` and
`pivots.py` (FROM), `select_list.py` with `values.py` (the columns), `meanings.py` (the names in them), `queries.py`
(set operations, clauses). `relation.py` is what these hand to each other, `names.py` the naming rules of each engine,
`data_types.py` what is certain of types, and `model.py` the result.
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
    """Return what `sql`, one query, yields; `tables` are by the text that the SQL has for them.

    Whatever goes wrong in reading it costs what is known of this query, and is named in its `problem`.
    """
    try:
        names = Names(dialect)
        tree = parsed(sql, names)
        if not isinstance(tree, exp.Query | exp.Values | exp.Pivot):
            return QueryLineage(problem=f"a statement of kind {tree.key} is not a query")
        reader = Reader(tables, dialect)
        relation = reader.query(tree, Scope(reader.names, {}))
    except Exception as error:  # of sqlglot or of ours: strangers' SQL is of every kind
        return QueryLineage(problem=str(error).splitlines()[0][:200] if str(error) else type(error).__name__)
    return _result(relation, reader.names, tuple(reader.tables.open))


def _result(relation: Relation, names: Names, open_tables: tuple[str, ...]) -> QueryLineage:
    # A table cannot have two columns of one name, so such a name says nothing.
    twice = names.duplicates(column.name for column in relation.columns)
    columns = {c.name: c.lineage for c in relation.columns if c.name and names.key(c.name) not in twice}
    complete = relation.complete and len(columns) == len(relation.columns)
    result = QueryLineage(columns, relation.rows, complete, relation.rows_known)
    is_whole = complete and result.rows_known and not result.left_out
    return result if is_whole else replace(result, open_tables=open_tables)
