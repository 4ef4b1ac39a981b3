"""PIVOT and UNPIVOT: the columns that are passed through, and the lineage of the new columns.

In: the relation to pivot. Out: an open relation after PIVOT, because each engine names the new columns by its own
rule, and a complete relation after UNPIVOT.
"""

from __future__ import annotations

from dataclasses import replace

from sqlglot import exp

from .model import CONSTANT, INDIRECT, UNKNOWN, ColumnLineage, Origin, combined, either
from .relation import OPAQUE, NamedColumn, Relation, Scope, Source
from .values import QueryReader, value_of


def pivoted(relation: Relation, pivot: exp.Pivot, scope: Scope, reader: QueryReader) -> Relation:
    """Return a relation after PIVOT or UNPIVOT."""
    if pivot.args.get("with_") or not relation.complete or not relation.has_names():
        return Relation(rows=relation.rows, rows_known=False)
    inside = Scope(scope.names, scope.ctes, scope.outer, [Source((), relation)])
    turned = (_unpivot if pivot.args.get("unpivot") else _pivot)(relation, pivot, inside, reader)
    alias = pivot.args.get("alias")
    columns = [scope.names.spelled(name) for name in alias.columns] if alias else []
    turned.in_order = relation.in_order
    if not columns:
        return turned
    if turned.complete or not turned.in_order:
        return turned.renamed(columns)
    # The columns that are passed through come first, then the new ones in the engine's order.
    passed = [replace(column, name=name) for column, name in zip(turned.columns, columns, strict=False)]
    new = turned.get("", scope.names)
    return Relation(
        passed + [NamedColumn(name, new) for name in columns[len(passed) :]],
        complete=len(columns) > len(turned.columns),
        rows=turned.rows,
        rows_known=turned.rows_known,
    )


def _pivot(relation: Relation, pivot: exp.Pivot, scope: Scope, reader: QueryReader) -> Relation:
    names = scope.names
    aggregates = [item.unalias() for item in pivot.expressions]
    fields = [item.this for item in pivot.args.get("fields") or []]
    if pivot.args.get("using"):  # DuckDB's statement: `pivot t on field using aggregate`
        aggregates, fields = [item.unalias() for item in pivot.args["using"]], pivot.args["expressions"]
    if not fields or not aggregates:
        return OPAQUE
    values = [value_of(aggregate, scope, reader) for aggregate in aggregates]
    chosen = combined(value_of(item, scope, reader) for item in fields).through(INDIRECT, "CONDITIONAL")
    group = pivot.args.get("group")
    if group is not None:
        grouped = [name for item in group.expressions for name in _used(item, scope)]
        passed = [column for key in grouped for column in relation.named(key, names)]
    else:
        used = {name for item in [*aggregates, *fields] for name in _used(item, scope)}
        passed = [column for column in relation.columns if names.key(column.name) not in used]
    # With several aggregates, a new column depends on one of them. Only the engine's naming rule tells which.
    one = combined((values[0], chosen)) if len(values) == 1 else UNKNOWN
    keys = {names.key(column.name) for column in passed}
    return Relation(
        passed,
        rest=lambda key: UNKNOWN if key in keys else one,
        rows=relation.rows | _indirect(passed, "GROUP_BY"),
        rows_known=relation.rows_known and all(column.lineage.known for column in passed),
    )


def _unpivot(relation: Relation, pivot: exp.Pivot, scope: Scope, reader: QueryReader) -> Relation:
    names = scope.names
    into = pivot.args.get("into")
    if into is not None:  # DuckDB's statement: `unpivot t on a, b into name n value v`
        name, values, turned = into.this, into.expressions, pivot.expressions
    else:
        fields = pivot.args.get("fields") or []
        if len(fields) != 1:
            return OPAQUE
        name, values, turned = fields[0].this, pivot.expressions, fields[0].expressions
    turned = [item.this if isinstance(item, exp.PivotAlias | exp.Alias) else item for item in turned]
    if len(values) != 1 or not all(isinstance(item, exp.Column) for item in turned):
        return Relation(rows=relation.rows, rows_known=False)
    used = {key for item in turned for key in _used(item, scope)}
    value: ColumnLineage | None = None
    for item in turned:
        column = value_of(item, scope, reader)
        value = either(value, column) if value else column
    passed = [column for column in relation.columns if names.key(column.name) not in used]
    new = [_named(name, CONSTANT, scope), _named(values[0], value or UNKNOWN, scope)]
    if names.unpivot_values_lead:
        new.reverse()
    # Rows without a value are dropped.
    keeps_all = bool(pivot.args.get("include_nulls"))
    filtered = CONSTANT if keeps_all else (value or UNKNOWN).through(INDIRECT, "FILTER")
    return Relation(
        [*passed, *new],
        complete=True,
        rows=relation.rows | filtered.origins,
        rows_known=relation.rows_known and filtered.known,
    )


def _named(name: exp.Expr, lineage: ColumnLineage, scope: Scope) -> NamedColumn:
    identifier = name.this if isinstance(name, exp.Column) else name
    return NamedColumn(scope.names.spelled(identifier), lineage)


def _used(expression: exp.Expr, scope: Scope) -> list[str]:
    return [scope.names.table_key(column.this) for column in expression.find_all(exp.Column)]


def _indirect(columns: list[NamedColumn], subtype: str) -> frozenset[Origin]:
    return combined(column.lineage for column in columns).through(INDIRECT, subtype).origins
