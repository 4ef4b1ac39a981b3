"""Where a column comes from, and how: the plain data of column lineage.

Types and subtypes are those of https://openlineage.io/docs/spec/facets/dataset-facets/column_lineage_facet.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

DIRECT, INDIRECT = "DIRECT", "INDIRECT"
# Of two direct steps in a row, the one further right names both.
STRENGTH = ("IDENTITY", "TRANSFORMATION", "AGGREGATION")


@dataclass(frozen=True, slots=True, order=True)
class Origin:
    """A column that another is made of, and how: type and subtype are OpenLineage's."""

    table: str
    column: str
    type: str = DIRECT
    subtype: str = "IDENTITY"

    def through(self, kind: str, subtype: str) -> Origin:
        """Return the origin as it is seen from beyond one more step."""
        if self.type == INDIRECT:
            return self
        if kind == INDIRECT:
            return replace(self, type=kind, subtype=subtype)
        return replace(self, subtype=max(self.subtype, subtype, key=STRENGTH.index))


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its origins, its type where a cast or an unchanged column proves it, whether it could be followed."""

    origins: frozenset[Origin] = frozenset()
    type: str | None = None
    known: bool = True

    def through(self, kind: str, subtype: str) -> Column:
        """Return the column as it is seen from beyond one more step."""
        return replace(self, origins=frozenset(origin.through(kind, subtype) for origin in self.origins))


UNKNOWN = Column(known=False)
