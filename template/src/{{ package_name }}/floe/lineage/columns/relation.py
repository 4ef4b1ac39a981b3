"""Relations and scopes: what a query reads from, and the names that it can use.

A relation is the result of a table, a subquery or a function. Where its columns are not all known it is open: a name
that it does not list may still be one of its columns.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from sqlglot import exp

from .model import UNKNOWN, ColumnLineage, Origin, combined
from .names import Names

NUMBERED = re.compile(r".*_\d+")


@dataclass(frozen=True, slots=True)
class NamedColumn:
    """A column of a relation, called as the engine has it; without a name if its own rule for that is not known."""

    name: str
    lineage: ColumnLineage


@dataclass(slots=True)
class Relation:
    """What a table, subquery or function yields.

    Attributes:
        columns: The columns that are known, in order, with or without a name.
        complete: Whether these are all.
        rest: Of an open relation, what a column of some key is that `columns` lacks.
        rows: What decides which rows there are.
        rows_known: Whether `rows` are all.
        row: What a whole row is made of, if not of `columns`.
    """

    columns: list[NamedColumn] = field(default_factory=list)
    complete: bool = False
    rest: Callable[[str], ColumnLineage] | None = None
    rows: frozenset[Origin] = frozenset()
    rows_known: bool = True
    row: ColumnLineage | None = None

    def named(self, key: str, names: Names) -> list[NamedColumn]:
        """Return the columns of a key: none, one, or several that cannot be told apart by name."""
        return [column for column in self.columns if column.name and names.key(column.name) == key]

    def may_have(self, key: str, names: Names) -> bool:
        """Say whether a column of this key is listed, or may be one that is not listed or has no name."""
        return not self.complete or not self.has_names() or bool(self.named(key, names))

    def has_names(self) -> bool:
        """Say whether the name of each column is known."""
        return all(column.name for column in self.columns)

    def get(self, key: str, names: Names) -> ColumnLineage:
        """Return the column of a key."""
        columns = self.named(key, names)
        if columns:
            return columns[0].lineage if len(columns) == 1 else UNKNOWN
        return self.rest(key) if self.rest and not self.complete else UNKNOWN

    def whole_row(self) -> ColumnLineage:
        """Return what a whole row is made of."""
        if self.row is not None:
            return self.row
        if not self.complete:
            return UNKNOWN
        return combined(column.lineage for column in self.columns).through("DIRECT", "TRANSFORMATION")

    def renamed(self, aliases: list[str]) -> Relation:
        """Return the relation with its first columns called as `aliases`."""
        if not aliases:
            return self
        if not self.complete:
            # What is not listed may stand before what is.
            return Relation(
                [NamedColumn(alias, self.row or UNKNOWN) for alias in aliases],
                rows=self.rows,
                rows_known=self.rows_known,
                row=self.row,
            )
        columns = [
            replace(column, name=alias) for column, alias in zip(self.columns, aliases, strict=False)
        ] + self.columns[len(aliases) :]
        return replace(self, columns=columns)


OPAQUE = Relation(rows_known=False)


@dataclass(slots=True)
class Source:
    """A relation in a FROM clause.

    Attributes:
        parts: The name it goes by, as compared: an alias, or the parts of a table's name.
        relation: What it yields.
        visible: Whether the select list sees it; not the right side of a semi join.
    """

    parts: tuple[str, ...]
    relation: Relation
    visible: bool = True

    def is_called(self, parts: tuple[str, ...]) -> bool:
        """Say whether a qualifier names this source; it may leave out leading parts."""
        return bool(parts) and self.parts[-len(parts) :] == parts


@dataclass(frozen=True, slots=True)
class Shared:
    """A column that `using` has merged out of those of several sources."""

    column: NamedColumn
    sources: tuple[Source, ...]


@dataclass(slots=True)
class Scope:
    """The names that an expression of one query can use.

    Attributes:
        sources: What stands in FROM, in order.
        shared: The columns that `using` has merged, by key.
        unclear: Whether `natural join` has merged columns that are not known.
        unordered: Whether the order of the sources is not known.
        ctes: The common table expressions, by key.
        outer: The scope around a subquery.
        aliases: The columns of the select list so far, by key.
        projections: The select list.
        windows: The named windows, by key.
        parameters: Names that are bound within an expression, such as a lambda's.
    """

    names: Names
    ctes: Mapping[str, Relation]
    outer: Scope | None = None
    sources: list[Source] = field(default_factory=list)
    shared: dict[str, Shared] = field(default_factory=dict)
    unclear: bool = False
    unordered: bool = False
    aliases: dict[str, ColumnLineage] = field(default_factory=dict)
    projections: list[exp.Expr] = field(default_factory=list)
    windows: dict[str, exp.Window] = field(default_factory=dict)
    parameters: frozenset[str] = frozenset()

    def beside(self, ctes: Mapping[str, Relation] | None = None) -> Scope:
        """Return an empty scope at the place of this one, with its own or more common table expressions."""
        return Scope(self.names, self.ctes if ctes is None else ctes, self.outer)

    def within(self) -> Scope:
        """Return an empty scope inside this one, as a subquery has it."""
        return Scope(self.names, self.ctes, self)

    def visible(self) -> list[Source]:
        """Return the sources that the select list sees."""
        return [source for source in self.sources if source.visible]

    def called(self, parts: tuple[str, ...], *, here: bool = False) -> Source | None:
        """Return the source that a qualifier names, in this scope or, if not only `here`, around it; none if two do."""
        scope: Scope | None = self
        while scope is not None:
            sources = [source for source in scope.sources if source.is_called(parts)]
            if sources:
                return sources[0] if len(sources) == 1 else None
            scope = None if here else scope.outer
        return None

    def holder(self, keys: list[str]) -> tuple[Relation, int] | NamedColumn | None:
        """Return what a qualified name means, in this scope or the next one around it.

        Either a relation and the position of the key that is its column, or a column of which the rest is a field. The
        longest qualifier counts: `a.b.c` is a column of the table `a.b` before it is a field of the column `a.b`.
        """
        scope: Scope | None = self
        while scope is not None:
            for position in range(len(keys) - 1, 0, -1):
                source = scope.called(tuple(keys[:position]), here=True)
                if source and source.relation.may_have(keys[position], self.names):
                    return source.relation, position
            if own := scope.own(keys[0]):
                return own
            scope = scope.outer
        return None

    def own(self, key: str) -> NamedColumn | None:
        """Return the column that an unqualified key surely means among the sources of this scope."""
        if self.unclear:
            return None
        shared = self.shared.get(key)
        merged = shared.sources if shared else ()
        columns = [shared.column] if shared else []
        for source in self.visible():
            if not any(source is one for one in merged):
                columns += source.relation.named(key, self.names)
        return columns[0] if len(columns) == 1 else None

    def candidates(self, key: str) -> list[Source]:
        """Return the sources that may have a column of a key."""
        return [source for source in self.visible() if source.relation.may_have(key, self.names)]

    def orders_star(self) -> bool:
        """Say whether the order of the columns that `*` stands for is known."""
        if self.unordered or not self.shared or self.names.orders_shared_columns:
            return not self.unordered
        first = self.visible()[0].relation.columns
        return [self.names.key(column.name) for column in first[: len(self.shared)]] == list(self.shared)

    def star(self) -> Iterator[tuple[Relation, list[NamedColumn]]]:
        """Yield what `*` stands for: relations, each with those of its columns that are not merged into another's."""
        leading = self.names.shared_columns_lead
        if leading and self.shared:
            yield Relation(complete=True), [shared.column for shared in self.shared.values()]
        given = set(self.shared) if leading else set()
        for source in self.visible():
            columns = []
            for column in source.relation.columns:
                key = self.names.key(column.name)
                shared = self.shared.get(key)
                if shared is None or not any(source is one for one in shared.sources):
                    columns.append(column)
                elif key not in given:
                    columns.append(shared.column)
                    given.add(key)
            yield source.relation, columns
