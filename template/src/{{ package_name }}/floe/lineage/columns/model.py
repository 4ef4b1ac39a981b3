"""Column lineage as plain data: the origins of a column, and how it depends on them.

Types and subtypes are those of https://openlineage.io/docs/spec/facets/dataset-facets/column_lineage_facet.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

DIRECT, INDIRECT = "DIRECT", "INDIRECT"
# The subtype of a direct step of which it is not known whether it aggregates.
MAY_AGGREGATE = ""
# For two direct steps in a row, the subtype further right applies.
STRENGTH = ("IDENTITY", "TRANSFORMATION", MAY_AGGREGATE, "AGGREGATION")


@dataclass(frozen=True, slots=True, order=True)
class Origin:
    """A column on which another depends, and how; `type` and `subtype` are OpenLineage's."""

    table: str
    column: str
    type: str = DIRECT
    subtype: str = "IDENTITY"

    def through(self, kind: str, subtype: str) -> Origin:
        """Return the origin after one more step."""
        if self.type == INDIRECT:
            return self
        if kind == INDIRECT:
            return replace(self, type=kind, subtype=subtype)
        return replace(self, subtype=max(self.subtype, subtype, key=STRENGTH.index))


@dataclass(frozen=True, slots=True)
class ColumnLineage:
    """The lineage of one column.

    Attributes:
        origins: The columns on which it depends.
        type: Its data type, if a cast or an unchanged column proves it.
        known: Whether `origins` are certain and complete.
        built: Whether the SQL itself builds the value of several parts, so that a field has only some of `origins`.
        fields: Key and lineage of each field of a built value, if they are certain.
    """

    origins: frozenset[Origin] = frozenset()
    type: str | None = None
    known: bool = True
    built: bool = False
    fields: tuple[tuple[str, ColumnLineage], ...] = ()

    def through(self, kind: str, subtype: str) -> ColumnLineage:
        """Return the column after one more step."""
        is_direct = kind == DIRECT
        fields = tuple((key, part.through(kind, subtype)) for key, part in self.fields) if is_direct else ()
        origins = frozenset(origin.through(kind, subtype) for origin in self.origins)
        return replace(self, origins=origins, built=self.built and is_direct, fields=fields)

    def field(self, key: str) -> ColumnLineage:
        """Return the lineage of a field; that of a value that the SQL does not build counts as the whole value."""
        if not self.built:
            return replace(self.through(DIRECT, "TRANSFORMATION"), type=None)
        if self.known and not self.origins:
            return CONSTANT
        fields = [part for name, part in self.fields if name == key]
        return replace(fields[0].through(DIRECT, "TRANSFORMATION"), type=None) if len(fields) == 1 else UNKNOWN

    def parts(self) -> ColumnLineage:
        """Return the lineage of any part of the value, such as one of several columns that a function makes of it."""
        return UNKNOWN if self.built and self.origins else self


CONSTANT = ColumnLineage()
UNKNOWN = ColumnLineage(known=False)


@dataclass(frozen=True, slots=True)
class TableColumns:
    """The known columns of a table.

    Attributes:
        columns: Types by column, as far as they are known.
        complete: Whether these are all columns.
        in_order: Whether they are in the order of the table.
        spellings: How other columns are spelled, if they are there: a query that runs and names one shows that it is.
    """

    columns: Mapping[str, str | None]
    complete: bool = True
    in_order: bool = True
    spellings: tuple[str, ...] = ()

    def digest(self) -> str:
        """Return a hash of all attributes."""
        text = json.dumps([list(self.columns.items()), self.complete, self.in_order, self.spellings])
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class QueryLineage:
    """The lineage of a query's result.

    Attributes:
        columns: The columns by name.
        rows: The columns that determine the rows: in joins, filters and groups.
        complete: Whether `columns` are all columns.
        rows_known: Whether `rows` is complete.
        in_order: Whether `columns` are in the order of the result.
        open_tables: Tables that the query reads and whose columns, or their spelling in the engine, are not known.
        problem: Why nothing is known, if the SQL could not be read.
    """

    columns: Mapping[str, ColumnLineage] = field(default_factory=dict)
    rows: frozenset[Origin] = frozenset()
    complete: bool = False
    rows_known: bool = True
    in_order: bool = True
    open_tables: tuple[str, ...] = ()
    problem: str | None = None

    @property
    def left_out(self) -> list[str]:
        """Return the names of the columns whose origins are not certain."""
        return [name for name, column in self.columns.items() if not column.known]

    def without(self, table: str) -> QueryLineage:
        """Return the lineage without the origins in one of the tables."""
        columns = {
            name: replace(column, origins=_without(column.origins, table)) for name, column in self.columns.items()
        }
        return replace(self, columns=columns, rows=_without(self.rows, table))


def _without(origins: frozenset[Origin], table: str) -> frozenset[Origin]:
    return frozenset(origin for origin in origins if origin.table != table)


def combined(parts: Iterable[ColumnLineage], data_type: str | None = None) -> ColumnLineage:
    """Return a column that depends on all `parts`; it is known if all of them are."""
    parts = list(parts)
    origins = frozenset(origin for part in parts for origin in part.origins)
    built = any(part.built for part in parts)
    return ColumnLineage(origins, data_type, all(part.known for part in parts), built)


def either(one: ColumnLineage, other: ColumnLineage) -> ColumnLineage:
    """Return a column whose values come from one of two columns."""
    return combined((one, other), one.type if one.type == other.type else None)
