"""Relations and scopes: the sources of a query, and the names that it can use.

A relation is the result of a table, a subquery or a function. It is open if not all of its columns are known: a name
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
    """A column of a relation with its name in the engine; the name is blank if the engine's rule is not known."""

    name: str
    lineage: ColumnLineage


@dataclass(slots=True)
class Relation:
    """The result of a table, subquery or function.

    Attributes:
        columns: The known columns, with or without a name.
        complete: Whether these are all columns.
        in_order: Whether they are in the order of the result.
        rest: For an open relation: key of a column that `columns` lacks -> the column's lineage.
        rows: The columns that determine the rows.
        rows_known: Whether `rows` is complete.
        row: The lineage of a whole row, if it differs from that of `columns`.
    """

    columns: list[NamedColumn] = field(default_factory=list)
    complete: bool = False
    rest: Callable[[str], ColumnLineage] | None = None
    rows: frozenset[Origin] = frozenset()
    rows_known: bool = True
    row: ColumnLineage | None = None
    in_order: bool = True

    def named(self, key: str, names: Names) -> list[NamedColumn]:
        """Return the columns with a key: none, one, or several with the same name."""
        return [column for column in self.columns if column.name and names.key(column.name) == key]

    def may_have(self, key: str, names: Names) -> bool:
        """Return whether the relation has a column with this key, or may have one that is unlisted or has no name."""
        return not self.complete or not self.has_names() or bool(self.named(key, names))

    def has_names(self) -> bool:
        """Return whether the names of all columns are known."""
        return all(column.name for column in self.columns)

    def get(self, key: str, names: Names) -> ColumnLineage:
        """Return the lineage of the column with a key."""
        columns = self.named(key, names)
        if columns:
            return columns[0].lineage if len(columns) == 1 else UNKNOWN
        return self.rest(key) if self.rest and not self.complete else UNKNOWN

    def whole_row(self) -> ColumnLineage:
        """Return the lineage of a whole row."""
        if self.row is not None:
            return self.row
        if not self.complete:
            return UNKNOWN
        row = combined(column.lineage for column in self.columns).through("DIRECT", "TRANSFORMATION")
        fields = tuple((column.name.lower(), column.lineage) for column in self.columns)
        return replace(row, built=True, fields=fields)

    def renamed(self, aliases: list[str]) -> Relation:
        """Return the relation with its first columns renamed to `aliases`."""
        if not aliases:
            return self
        if not (self.complete and self.in_order):
            # Which columns these are is not known: unlisted ones may precede the listed ones.
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
        parts: The comparison keys of its name: an alias, or the parts of a table's name.
        relation: The relation itself.
        visible: Whether the select list sees it; it does not see the right side of a semi join.
    """

    parts: tuple[str, ...]
    relation: Relation
    visible: bool = True

    def is_called(self, parts: tuple[str, ...]) -> bool:
        """Return whether a qualifier names this source; it may omit leading parts."""
        return bool(parts) and self.parts[-len(parts) :] == parts


@dataclass(frozen=True, slots=True)
class Shared:
    """A column that `using` has merged from several sources."""

    column: NamedColumn
    sources: tuple[Source, ...]


@dataclass(slots=True)
class Projection:
    """An item of a select list.

    Attributes:
        expression: The item with its alias.
        columns: Its known columns, in order.
        given: The keys of the columns that the query names itself.
        complete: Whether these are all its columns, in order.
        renames: Whether unlisted columns of it may have names that the sources use for other columns.
    """

    expression: exp.Expr
    columns: list[NamedColumn]
    given: frozenset[str]
    complete: bool
    renames: bool


@dataclass(slots=True)
class Scope:
    """The names that an expression of a query can use.

    Attributes:
        sources: The sources in FROM, in order.
        shared: The columns merged by `using`, by key.
        unclear: Whether `natural join` has merged unknown columns.
        unordered: Whether the order of the sources is not known.
        ctes: The common table expressions, by key.
        outer: The scope around a subquery.
        aliases: The columns of the select list so far, by key.
        projections: The select list so far.
        windows: The named windows, by key.
        groups: Whether the select may turn several rows into one, so that an unknown function may be an aggregate.
        parameters: Names that are bound inside an expression, such as the parameters of a lambda.
    """

    names: Names
    ctes: Mapping[str, Relation]
    outer: Scope | None = None
    sources: list[Source] = field(default_factory=list)
    shared: dict[str, Shared] = field(default_factory=dict)
    unclear: bool = False
    unordered: bool = False
    aliases: dict[str, ColumnLineage] = field(default_factory=dict)
    projections: list[Projection] = field(default_factory=list)
    windows: dict[str, exp.Window] = field(default_factory=dict)
    groups: bool = False
    parameters: frozenset[str] = frozenset()

    def sibling(self, ctes: Mapping[str, Relation] | None = None) -> Scope:
        """Return an empty scope on the level of this one, with its common table expressions or with `ctes`."""
        return Scope(self.names, self.ctes if ctes is None else ctes, self.outer)

    def within(self) -> Scope:
        """Return an empty scope inside this one, for a subquery."""
        return Scope(self.names, self.ctes, self)

    def visible(self) -> list[Source]:
        """Return the sources that the select list sees."""
        return [source for source in self.sources if source.visible]

    def called(self, parts: tuple[str, ...], *, here: bool = False) -> Source | None:
        """Return the source that a qualifier names, also in outer scopes unless `here`; None if it names two."""
        scope: Scope | None = self
        while scope is not None:
            sources = [source for source in scope.sources if source.is_called(parts)]
            if sources:
                return sources[0] if len(sources) == 1 else None
            scope = None if here else scope.outer
        return None

    def may_aggregate(self) -> bool:
        """Return whether an unknown function may be an aggregate, of this select or of one around it."""
        return self.groups or (self.outer is not None and self.outer.may_aggregate())

    def holder(self, keys: list[str]) -> tuple[Relation, int] | NamedColumn | None:
        """Return the meaning of a qualified name, in this scope or the nearest outer one.

        This is either a relation and the position of the key of its column, or a column whose field the rest names. The
        longest qualifier takes precedence: `a.b.c` is a column of the table `a.b`, not a field of the column `a.b`.
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
        """Return the column of this scope's sources that an unqualified key certainly means, or None."""
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
        """Return the sources that may have a column with a key."""
        return [source for source in self.visible() if source.relation.may_have(key, self.names)]

    def orders_star(self) -> bool:
        """Return whether the order of the columns of `*` is known."""
        if self.unordered or not self.shared or self.names.orders_shared_columns:
            return not self.unordered
        first = self.visible()[0].relation.columns
        return [self.names.key(column.name) for column in first[: len(self.shared)]] == list(self.shared)

    def star(self) -> Iterator[tuple[Relation, list[NamedColumn]]]:
        """Yield the relations of `*`, each with its columns except for those merged into another relation's."""
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
