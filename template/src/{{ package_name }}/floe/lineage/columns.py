"""The SQL of a model -> which columns it is made of: column lineage, by sqlglot.

In: compiled SQL, its dialect, and the columns of the tables that it may read. Out: the columns that it yields and
where each comes from, as https://openlineage.io/docs/spec/facets/dataset-facets/column_lineage_facet has it. Only
what the SQL itself proves is said: a column that cannot be followed is marked as such, never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from sqlglot import exp, parse_one
from sqlglot.dialects.dialect import Dialect, NormalizationStrategy
from sqlglot.dialects.postgres import Postgres
from sqlglot.errors import OptimizeError, SqlglotError
from sqlglot.optimizer.qualify import qualify
from sqlglot.optimizer.scope import Scope, build_scope
from sqlglot.schema import MappingSchema

from .column_reader import Reader
from .origins import Column, Origin

# sqlglot's name for a column without one; each engine has its own.
UNNAMED = re.compile(r"_col_\d+", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Table:
    """What is known of a table: its columns with their types, and whether these are all it has."""

    columns: Mapping[str, str | None]
    complete: bool = True


@dataclass(frozen=True, slots=True)
class Query:
    """What a query yields.

    Attributes:
        columns: By name, in order.
        rows: What decides on its rows as a whole: joins, filters, groups.
        complete: Whether `columns` are all; not if a `*` stands for a table whose columns are unknown.
        problem: Why nothing is known, if the SQL could not be read.
    """

    columns: Mapping[str, Column] = field(default_factory=dict)
    rows: frozenset[Origin] = frozenset()
    complete: bool = False
    problem: str | None = None

    @property
    def left_out(self) -> list[str]:
        """Return the names of the columns that could not be followed."""
        return [name for name, column in self.columns.items() if not column.known]


def read_query(sql: str, dialect: str, tables: Mapping[str, Table]) -> Query:
    """Return what `sql`, one query, yields; `tables` are by the name that the SQL has for them, dots between parts."""
    try:
        tree = parse_one(sql, dialect=dialect)
        if not isinstance(tree, exp.Query):
            return Query(problem=f"a statement of kind {tree.key} is no query")
        spelling = _spelling(tree, tables.values()) if fold("aA", dialect) == "aA" else {}
        keys = _rename_tables(tree, tables)
        known = {
            short: {_compared(name, dialect): tables[key].columns[name] for name in tables[key].columns}
            for short, key in keys.items()
        }
        schema = MappingSchema(
            {short: dict.fromkeys(known[short], "unknown") for short, key in keys.items() if tables[key].complete},
            dialect=dialect,
            normalize=False,
        )
        try:
            qualified = _qualified(tree.copy(), dialect, schema)
        except OptimizeError:
            _set_aside_unclear(tree, set(schema.mapping))
            qualified = _qualified(tree, dialect, schema)
        scope = build_scope(qualified)
        if scope is None:
            return Query(problem="sqlglot finds no query in it")
        return _query(Reader(known, set(schema.mapping), dialect), scope, keys, spelling)
    except (SqlglotError, RecursionError, ValueError) as error:
        return Query(problem=str(error).splitlines()[0][:200] if str(error) else type(error).__name__)


def _qualified(tree: exp.Query, dialect: str, schema: MappingSchema) -> exp.Query:
    return qualify(
        tree,
        dialect=dialect,
        schema=schema,
        allow_partial_qualification=True,
        validate_qualify_columns=False,
        quote_identifiers=False,
    )


def _set_aside_unclear(tree: exp.Query, complete: set[str]) -> None:
    """Mark what may be of a subquery's unknown table or of the query around it, such as of `select max(x) from this`.

    sqlglot refuses the whole query for it; marked so, it is only left out itself.
    """
    for select in tree.find_all(exp.Select):
        own = [table.name for table in select.find_all(exp.Table) if table.find_ancestor(exp.Select) is select]
        if select.find_ancestor(exp.Select) and not all(name in complete for name in own):
            for column in select.find_all(exp.Column):
                if not column.table and column.find_ancestor(exp.Select) is select:
                    column.set("table", exp.to_identifier("unclear_", quoted=True))


def fold(name: str, dialect: str, *, quoted: bool = False) -> str:
    """Return a column's name as the engine keeps it."""
    engine = Dialect.get_or_raise(dialect)
    if quoted:
        return name
    if engine.normalization_strategy is NormalizationStrategy.UPPERCASE:
        return name.upper()
    # Redshift is one of these too; the others ignore case and keep the spelling.
    return name.lower() if isinstance(engine, Postgres) else name


def _compared(name: str, dialect: str) -> str:
    # As sqlglot normalises names: engines that ignore case compare in lower case, quotes or not.
    strategy = Dialect.get_or_raise(dialect).normalization_strategy
    is_compared = strategy in {NormalizationStrategy.UPPERCASE, NormalizationStrategy.LOWERCASE}
    return name if is_compared else name.lower()


def _spelling(tree: exp.Query, tables: Iterable[Table]) -> dict[str, str]:
    spelled = {name.lower(): name for table in tables for name in table.columns}
    spelled |= {alias.alias.lower(): alias.alias for alias in tree.find_all(exp.Alias) if alias.alias}
    # What the outermost query calls its columns wins over a like name further in.
    return spelled | {name.lower(): name for name in tree.named_selects if name != "*"}


def _rename_tables(tree: exp.Query, tables: Mapping[str, Table]) -> dict[str, str]:
    """Give each table of `tree` a name without dots, which schema and scopes take alike: name -> key of `tables`."""
    by_parts = _by_parts(tables)
    shorts: dict[str, str] = {}
    keys: dict[str, str] = {}
    for table in list(tree.find_all(exp.Table)):
        parts = tuple(part.name.lower() for part in table.parts)
        # A single name is a common table expression; one without a name is a function.
        if len(parts) < 2 or not isinstance(table.this, exp.Identifier):
            continue
        key = by_parts.get(parts)
        short = shorts.setdefault(key or ".".join(parts), f"{'t' if key else 'u'}{len(shorts)}_")
        if key:
            keys[short] = key
        alias = table.alias or table.name
        table.set("alias", exp.TableAlias(this=exp.to_identifier(alias, quoted=_is_quoted(table))))
        table.set("this", exp.to_identifier(short, quoted=True))
        table.set("db", None)
        table.set("catalog", None)
    for column in tree.find_all(exp.Column):
        if (
            column.args.get("db")
            and isinstance(column.this, exp.Star | exp.Identifier)
            and _names_table(column, by_parts)
        ):
            column.set("db", None)
            column.set("catalog", None)
    return keys


def _by_parts(tables: Mapping[str, Table]) -> dict[tuple[str, ...], str]:
    found: dict[tuple[str, ...], str | None] = {}
    for key in tables:
        parts = tuple(key.lower().split("."))
        for start in range(len(parts) - 1):
            # A shorter name that two tables share is neither's.
            found[parts[start:]] = None if parts[start:] in found else key
    return {parts: key for parts, key in found.items() if key}


def _names_table(column: exp.Column, by_parts: Mapping[tuple[str, ...], str]) -> bool:
    return tuple(part.name.lower() for part in column.parts[:-1]) in by_parts


def _is_quoted(table: exp.Table) -> bool:
    alias = table.args.get("alias")
    identifier = alias.this if alias and alias.this else table.this
    return bool(identifier.args.get("quoted"))


def _query(reader: Reader, scope: Scope, keys: Mapping[str, str], spelling: Mapping[str, str]) -> Query:
    def named(origins: Iterable[Origin]) -> frozenset[Origin]:
        return frozenset(
            Origin(keys[origin.table], spelling.get(origin.column, origin.column), origin.type, origin.subtype)
            for origin in origins
            if origin.table in keys
        )

    result = reader.read(scope)
    columns = {
        spelling.get(name, name): Column(named(column.origins), column.type, column.known)
        for name, column in result.columns.items()
        if not UNNAMED.fullmatch(name)
    }
    return Query(columns, named(result.rows), complete=not result.stars and len(columns) == len(result.columns))
