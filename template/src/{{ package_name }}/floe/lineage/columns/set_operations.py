"""UNION, INTERSECT and EXCEPT: the columns, matched by position or name, and the lineage of the remaining rows."""

from __future__ import annotations

from dataclasses import replace

from sqlglot import exp

from .model import INDIRECT, UNKNOWN, ColumnLineage, combined, either
from .names import Names
from .relation import NamedColumn, Relation


def set_operation(left: Relation, right: Relation, operation: exp.SetOperation, names: Names) -> Relation:
    """Return the UNION, INTERSECT or EXCEPT of two relations."""
    rows, known = left.rows | right.rows, left.rows_known and right.rows_known
    deciding = []
    if isinstance(operation, exp.Union):
        columns, complete = _union(left, right, names, by_name=bool(operation.args.get("by_name")))
    else:
        # The rows on the right only determine which rows on the left remain, by comparison.
        columns, complete = [NamedColumn(c.name, replace(c.lineage, type=None)) for c in left.columns], left.complete
        compared = [right] if operation.args.get("distinct") else [left, right]
        deciding += [all_columns(side).through(INDIRECT, "FILTER") for side in compared]
    by_name = isinstance(operation, exp.Union) and operation.args.get("by_name")
    relation = Relation(columns, complete, in_order=left.in_order and (not by_name or right.in_order))
    if not isinstance(operation, exp.Union):
        relation.rest = left.rest
    if operation.args.get("distinct"):
        deciding.append(all_columns(relation).through(INDIRECT, "GROUP_BY"))
    decision = combined(deciding)
    relation.rows, relation.rows_known = rows | decision.origins, known and decision.known
    return relation


def _union(left: Relation, right: Relation, names: Names, *, by_name: bool) -> tuple[list[NamedColumn], bool]:
    if by_name:
        if not (left.complete and right.complete and left.has_names() and right.has_names()):
            return [], False
        by_key = {names.key(column.name): column for column in right.columns}
        shared = [(column, by_key.pop(names.key(column.name), None)) for column in left.columns]
        merged = [NamedColumn(c.name, either(c.lineage, o.lineage) if o else c.lineage) for c, o in shared]
        return merged + list(by_key.values()), True
    matched = left.complete and right.complete and left.in_order and right.in_order
    if not (matched and len(left.columns) == len(right.columns)):
        # Columns cannot be matched by position. The names are those on the left.
        return [NamedColumn(column.name, UNKNOWN) for column in left.columns], left.complete
    pairs = zip(left.columns, right.columns, strict=True)
    return [NamedColumn(one.name, either(one.lineage, other.lineage)) for one, other in pairs], True


def all_columns(relation: Relation) -> ColumnLineage:
    """Return the combined lineage of all columns of a relation."""
    return combined(column.lineage for column in relation.columns) if relation.complete else UNKNOWN
