"""Select lists: the names of a query's columns and their lineage."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from sqlglot import exp

from .meanings import aggregates, call_of, function_name, is_function, is_method, is_windowed
from .model import CONSTANT, DIRECT, INDIRECT, UNKNOWN, ColumnLineage, combined
from .relation import NUMBERED, NamedColumn, Projection, Relation, Scope
from .values import QueryReader, value_of

# In a select list, these generate rows, and some of them several columns.
GENERATORS = (exp.Explode, exp.Posexplode, exp.Inline, exp.Stack, exp.Unnest)
# These do so as well, but sqlglot does not know them.
UNKNOWN_GENERATORS = frozenset(
    [f"{kind}_{name}" for kind in ("json", "jsonb") for name in ("array_elements", "array_elements_text", "each")]
    + [f"{kind}_{name}" for kind in ("json", "jsonb") for name in ("each_text", "object_keys", "populate_recordset")]
    + ["generate_subscripts", "jsonb_path_query", "regexp_matches", "regexp_split_to_table", "string_to_table"]
    + ["inline_outer", "variant_explode", "variant_explode_outer"]
)
# These yield several columns, for which Spark may have no names.
UNKNOWN_SPREADS = frozenset(
    ["inline_outer", "json_tuple", "posexplode_outer", "variant_explode", "variant_explode_outer"]
)
# `unnest` of these is always one column, whatever their elements are.
LISTS = (
    *(exp.Array, exp.ArrayAgg, exp.ExplodingGenerateSeries, exp.GenerateSeries, exp.MapKeys, exp.RegexpExtractAll),
    exp.Split,
)
# Functions of DuckDB that sqlglot lacks and that always return a list.
LIST_FUNCTIONS = {"list_distinct", "list_reverse", "list_sort", "list_value", "map_entries", "map_values"}


@dataclass(slots=True)
class _Columns:
    """The columns of a select list so far.

    Attributes:
        parts: The open relations that `*` includes, with the keys that it excludes.
        multipliers: The lineage of what determines how many rows one row becomes.
        ordered: Whether the order of the columns is known.
        written: The columns with their names in the query, before the engine numbers duplicates.
        given: The keys of the columns that the query names itself.
    """

    scope: Scope
    columns: list[NamedColumn] = field(default_factory=list)
    parts: list[tuple[Relation, frozenset[str]]] = field(default_factory=list)
    multipliers: list[ColumnLineage] = field(default_factory=list)
    ordered: bool = True
    in_order: bool = True  # of the columns of each relation
    written: list[NamedColumn] = field(default_factory=list)
    given: set[str] = field(default_factory=set)

    def add(self, name: str | None, lineage: ColumnLineage, *, is_given: bool = False) -> None:
        """Add a column. After unknown columns it may be the second of its name and get a number."""
        is_certain = not (self.parts and self.scope.names.numbers_duplicates)
        self.columns.append(NamedColumn(name or "" if is_certain else "", lineage))
        self.written.append(NamedColumn(name or "", lineage))
        if is_given:
            self.given.add(self.scope.names.key(name or ""))

    def relation(self) -> Relation:
        names = self.scope.names
        if names.numbers_duplicates:
            numbered = names.numbered([column.name for column in self.columns])
            self.columns = [NamedColumn(name, c.lineage) for name, c in zip(numbered, self.columns, strict=True)]
        complete = not self.parts and self.ordered
        rows = combined(self.multipliers).through(INDIRECT, "JOIN")
        return Relation(self.columns, complete, self._rest, rows.origins, rows.known, in_order=self.in_order)

    def _rest(self, key: str) -> ColumnLineage:
        names = self.scope.names
        # dbt ran the SQL, so the column exists. If only one relation may have it, that one has it.
        holders = [relation for relation, excluded in self.parts if key not in excluded]
        alone = len(self.parts) == 1 and not self.columns
        if len(holders) != 1 or not all(column.name for column in self.columns):
            return UNKNOWN
        if names.numbers_duplicates and not alone and NUMBERED.fullmatch(key):
            return UNKNOWN
        return holders[0].get(key, names)


def select_list(projections: Iterable[exp.Expr], scope: Scope, reader: QueryReader) -> Relation:
    """Return the result of a select list over the sources in `scope`; add its aliases to `scope`."""
    result = _Columns(scope)
    for projection in projections:
        inner = projection.unalias()
        count, parts = len(result.written), len(result.parts)
        result.given = set()
        result.multipliers.append(_multiplier(projection, scope, reader))
        if isinstance(projection, exp.Aliases):
            for column in _several(projection, scope, reader):
                result.add(column.name, column.lineage, is_given=True)
        elif projection.is_star:
            _star(projection, result, reader)
        elif _spreads(inner, scope, reader):
            result.parts.append((Relation(), frozenset()))
        else:
            lineage = value_of(inner, scope, reader)
            if isinstance(projection, exp.Alias):
                name: str | None = scope.names.spelled(projection.args["alias"])
                key = scope.names.key(name or "")
                scope.aliases[key] = UNKNOWN if key in scope.aliases else lineage
            else:
                name = _inner_name(inner, scope) if not isinstance(inner, GENERATORS) else None
            result.add(name, lineage, is_given=isinstance(projection, exp.Alias))
        new = result.parts[parts:]
        scope.projections.append(
            Projection(
                projection,
                result.written[count:],
                frozenset(result.given),
                complete=not new and result.ordered,
                renames=any(part.rest is None for part, _ in new),
            )
        )
    return result.relation()


def _multiplier(projection: exp.Expr, scope: Scope, reader: QueryReader) -> ColumnLineage:
    """Return the lineage of what determines how many rows a projection generates per row."""
    inner = projection.unalias()
    if scope.names.unnest_spreads_structs and isinstance(inner, GENERATORS) and _spreads(inner, scope, reader):
        # A list becomes rows, a struct only columns.
        data_type = value_of(inner.this, scope, reader).type or ""
        is_struct = data_type.upper().startswith("STRUCT") and len(list(inner.iter_expressions())) == 1
        return CONSTANT if is_struct else UNKNOWN
    functions = [
        item
        for item in projection.find_all(*GENERATORS, exp.ExplodingGenerateSeries, exp.Anonymous)
        if item.parent_select is projection.parent_select and not isinstance(item, exp.Stack)  # its row count is fixed
    ]
    if any(_may_generate(item, scope) for item in functions):
        return UNKNOWN
    generators = [item for item in functions if not isinstance(item, exp.Anonymous) or _is_unknown_generator(item)]
    return combined(lineage for item in generators for lineage in generated(item, 1, scope, reader))


def _is_unknown_generator(function: exp.Expr) -> bool:
    return isinstance(function, exp.Anonymous) and function_name(function) in UNKNOWN_GENERATORS


def _may_generate(function: exp.Expr, scope: Scope) -> bool:
    """Return whether a function of which nothing is known may turn one row into several."""
    if not scope.names.functions_may_generate or not isinstance(function, exp.Anonymous) or is_windowed(function):
        return False
    if function_name(function) in UNKNOWN_GENERATORS | UNKNOWN_SPREADS:
        return False
    if isinstance(function.parent, exp.Dot) and is_method(function.parent, scope):
        call = call_of(function.parent, scope.names.dialect)
        return isinstance(call, GENERATORS) or aggregates(call, scope.names.dialect) is None
    return aggregates(function, scope.names.dialect) is None


def _spreads(expression: exp.Expr, scope: Scope, reader: QueryReader) -> bool:
    """Return whether an expression may represent several columns, such as `columns('x.*')` and `* like 'x%'`."""
    if expression.find(exp.Columns):
        return True
    if isinstance(expression, exp.Binary) and isinstance(expression.this, exp.Star):
        return True
    if isinstance(expression, exp.Anonymous) and function_name(expression) in UNKNOWN_SPREADS:
        return not isinstance(expression.parent, exp.Alias)
    if not scope.names.unnest_spreads_structs or not isinstance(expression, GENERATORS):
        # Without an alias, a generator such as `explode` may yield a key and a value.
        is_named = isinstance(expression.parent, exp.Alias) or scope.names.functions_name_their_column
        function = expression.expression if isinstance(expression, exp.Dot) else expression
        return (isinstance(function, GENERATORS) or _may_generate(function, scope)) and not is_named
    if any(value for name, value in expression.args.items() if name != "this"):  # `recursive := true`
        return True
    data_type = value_of(expression.this, scope, reader).type or ""
    called = expression.this.name.lower() if isinstance(expression.this, exp.Anonymous) else ""
    return not (isinstance(expression.this, LISTS) or called in LIST_FUNCTIONS or data_type.endswith("]"))


def _inner_name(expression: exp.Expr, scope: Scope) -> str | None:
    """Return the name of a column that is selected without an alias."""
    identifier = scope.names.inner_name(expression)
    if identifier is None:
        return None
    column = expression.unnest()
    if isinstance(column, exp.Column) and is_function(column, scope):
        return None
    if not scope.names.result_takes_table_spelling or not isinstance(column, exp.Column):
        return scope.names.spelled(identifier)
    keys = [scope.names.table_key(part) for part in column.parts]
    if len(keys) == 1:
        own = scope.own(keys[0])
        return own.name if own else None
    match scope.holder(keys):
        case Relation() as relation, int() as position if position == len(keys) - 1:
            named = relation.named(keys[position], scope.names)
            return named[0].name if len(named) == 1 else None
    return identifier.name  # a field, whose name is spelled as in the query


def _star(projection: exp.Expr, result: _Columns, reader: QueryReader) -> None:
    scope, names = result.scope, result.scope.names
    star = projection.this if isinstance(projection, exp.Column) else projection
    if isinstance(projection, exp.Column):
        source = scope.called(tuple(names.table_key(part) for part in projection.parts[:-1]))
        relations = [(source.relation, source.relation.columns)] if source else []
    else:
        relations = [] if scope.unclear else list(scope.star())
        result.ordered = result.ordered and scope.orders_star()
    if not relations or not isinstance(star, exp.Star) or star.args.get("ilike"):  # `*` of a struct, or with a pattern
        result.parts.append((Relation(), frozenset()))
        return
    left_out = [column for item in star.args.get("except_") or () for column in _columns(item)]
    excluded = {_key(column, scope) for column in left_out}
    renames = star.args.get("rename") or ()
    renamed = {_key(item.this, scope): names.spelled(item.args["alias"]) for item in renames}
    replaced = {
        names.table_key(item.args["alias"]): NamedColumn(
            names.spelled(item.args["alias"]), value_of(item.this, scope, reader)
        )
        for item in star.args.get("replace") or ()
    }
    picked = [*left_out, *(item.this for item in renames)]
    listed = [names.key(column.name) for _, columns in relations for column in columns]
    # Not supported: finding out which of several columns with one name is meant.
    if any(len(column.parts) > 1 for column in picked if isinstance(column, exp.Column)) or any(
        listed.count(key) > 1 for key in renamed.keys() | replaced.keys()
    ):
        result.parts.append((Relation(), frozenset()))
        return
    for relation, columns in relations:
        result.in_order = result.in_order and relation.in_order
        if relation.complete:
            for column in columns:
                key = names.key(column.name)
                if key not in excluded:
                    new = replaced.pop(key, column)
                    is_given = new is not column or key in renamed
                    result.add(renamed.get(key, new.name), new.lineage, is_given=is_given)
        else:
            hidden = frozenset(excluded | renamed.keys() | replaced.keys())
            result.parts.append((relation, hidden))
    for column in replaced.values():
        result.add(column.name, column.lineage, is_given=True)
    if result.parts and renamed:
        result.parts.append((Relation(), frozenset()))


def _key(column: exp.Expr, scope: Scope) -> str:
    return scope.names.table_key(column.this if isinstance(column, exp.Column) else column)


def _columns(item: exp.Expr) -> list[exp.Expr]:
    return item.expressions if isinstance(item, exp.Tuple) else [item.unnest()]


def _several(projection: exp.Aliases, scope: Scope, reader: QueryReader) -> list[NamedColumn]:
    names = [scope.names.spelled(identifier) for identifier in projection.expressions]
    return list(map(NamedColumn, names, generated(projection.this, len(names), scope, reader)))


def generated(generator: exp.Expr, count: int, scope: Scope, reader: QueryReader) -> list[ColumnLineage]:
    """Return the lineage of the `count` columns that a function yields."""
    if isinstance(generator, exp.Stack):
        rows, cells = generator.this, [value_of(cell, scope, reader) for cell in generator.expressions]
        if not isinstance(rows, exp.Literal) or not rows.is_int or -(-len(cells) // int(rows.this)) != count:
            return [UNKNOWN] * count
        return [combined(cells[position::count]).through(DIRECT, "IDENTITY") for position in range(count)]
    arguments = [argument for argument in generator.iter_expressions() if not isinstance(argument, exp.DataType)]
    values = [value_of(argument, scope, reader) for argument in arguments]
    is_list = isinstance(generator, exp.Explode | exp.Unnest) and len(values) == 1  # a field is one of its elements'
    value = replace(values[0], type=None) if is_list else combined(values)
    return [(value if count == 1 else value.parts()).through(DIRECT, "TRANSFORMATION")] * count
