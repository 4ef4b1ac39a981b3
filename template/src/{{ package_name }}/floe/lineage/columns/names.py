"""The rules of an engine for column names: comparison, spelling and generated names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property

from sqlglot import exp
from sqlglot.dialects.bigquery import BigQuery
from sqlglot.dialects.dialect import Dialect, NormalizationStrategy
from sqlglot.dialects.duckdb import DuckDB
from sqlglot.dialects.postgres import Postgres
from sqlglot.dialects.redshift import Redshift
from sqlglot.dialects.snowflake import Snowflake
from sqlglot.dialects.spark import Spark

# Functions without brackets that sqlglot may take for columns, or over which a column takes precedence.
NO_PAREN_FUNCTIONS: dict[type[Dialect], str] = {
    BigQuery: "current_date current_datetime current_time current_timestamp",
    DuckDB: "current_catalog current_date current_role current_schema current_time current_timestamp current_user"
    " localtime localtimestamp session_user user",
    Postgres: "current_role system_user user",
    Spark: "current_date current_timestamp current_user session_user user",
}
# Names of date parts, which some functions take as keywords. Some engines accept those in `ABBREVIATED` as well.
DATE_PARTS = frozenset([*Dialect.DATE_PART_MAPPING.values(), "ISOWEEK", "ISOYEAR", "YEAROFWEEK"])
ABBREVIATED = frozenset(Dialect.DATE_PART_MAPPING)
# The columns of Snowflake's table functions.
SNOWFLAKE_FUNCTIONS: dict[type[exp.Expr], list[str]] = {
    exp.Explode: ["SEQ", "KEY", "PATH", "INDEX", "VALUE", "THIS"],  # sqlglot's class for FLATTEN
    exp.SplitToTable: ["SEQ", "INDEX", "VALUE"],
}
# Functions whose name PostgreSQL gives to the result's column, and whose name in sqlglot is the same.
SAME_NAMES = (exp.Avg, exp.Count, exp.Max, exp.Min, exp.Sum)


class Names:
    """The naming rules of one engine."""

    def __init__(self, dialect: str) -> None:
        """Use the rules of the engine with sqlglot's dialect `dialect`."""
        self.dialect = dialect
        self._engine = Dialect.get_or_raise(dialect)
        self._strategy = self._engine.normalization_strategy

    @cached_property
    def keeps_spelling(self) -> bool:
        """Return whether names are stored as written and compared without regard to case."""
        return self._strategy not in {NormalizationStrategy.UPPERCASE, NormalizationStrategy.LOWERCASE} and not (
            isinstance(self._engine, Postgres)
        )

    @cached_property
    def result_takes_table_spelling(self) -> bool:
        """Return whether `select Id` of a column `id` yields `id` rather than `Id`."""
        return self.dialect == "duckdb"

    @cached_property
    def numbers_duplicates(self) -> bool:
        """Return whether the second column with one name becomes `name_1`; elsewhere it cannot be stored or used."""
        return self.dialect == "duckdb"

    @cached_property
    def shared_columns_lead(self) -> bool:
        """Return whether `*` over `join … using` starts with the shared columns; elsewhere they stay in their place."""
        return self.dialect != "duckdb"

    @cached_property
    def orders_shared_columns(self) -> bool:
        """Return whether the position of the shared columns in `*` over `join … using` is known."""
        return not isinstance(self._engine, Snowflake)

    @cached_property
    def using_spells_columns(self) -> bool:
        """Return whether a column shared by `join … using` is spelled as in USING rather than as in its table."""
        return isinstance(self._engine, BigQuery)

    @cached_property
    def unnest_spreads_structs(self) -> bool:
        """Return whether `unnest` in a select list turns a struct into one column per field."""
        return self.dialect == "duckdb"

    @cached_property
    def functions_may_generate(self) -> bool:
        """Return whether a function of the owner in a select list may turn one row into several, or into none."""
        return isinstance(self._engine, DuckDB | Postgres | Spark) and not isinstance(self._engine, Redshift)

    @cached_property
    def subqueries_see_siblings(self) -> bool:
        """Return whether a subquery in FROM may use preceding tables without the word LATERAL."""
        return self.dialect == "duckdb"

    @cached_property
    def brackets_keep_positions(self) -> bool:
        """Return whether `order by (2)` sorts by the second column; elsewhere it may be a constant."""
        return isinstance(self._engine, DuckDB | Postgres | Spark)

    def may_generate(self, key: str, expression: exp.Expr) -> bool:
        """Return whether an expression without an alias may become a column with this key."""
        if not isinstance(self._engine, Postgres):
            return False
        words = {node.key for node in expression.walk()}
        for node in expression.find_all(exp.Func, exp.DataType):
            words |= {node.name.lower(), str(node.this).lower()}
            words |= {word.lower() for word in node.sql_names()} if isinstance(node, exp.Func) else set()
        return key in words

    @cached_property
    def recursive_may_be_left_out(self) -> bool:
        """Return whether a query may refer to itself without the word RECURSIVE."""
        return isinstance(self._engine, Snowflake)

    @cached_property
    def arrow_is_json(self) -> bool:
        """Return whether `a -> b` always extracts from JSON; elsewhere it may be a lambda."""
        return isinstance(self._engine, Postgres)

    @cached_property
    def minus_drops_fields(self) -> bool:
        """Return whether `a - 'key'` is the JSON object `a` without a field."""
        return isinstance(self._engine, Postgres) and not isinstance(self._engine, Redshift)

    @cached_property
    def columns_hide_tables(self) -> bool:
        """Return whether `a.b` is a field of the column `a` if there is also a table `a`."""
        return isinstance(self._engine, BigQuery)

    @cached_property
    def functions_follow_columns(self) -> bool:
        """Return whether `a.f()` is the function `f` of the column `a` if there is such a column."""
        return self.dialect == "duckdb"

    @cached_property
    def unpivot_values_lead(self) -> bool:
        """Return whether UNPIVOT puts the column of values before the column of names."""
        return isinstance(self._engine, BigQuery)

    @cached_property
    def tables_may_be_lists(self) -> bool:
        """Return whether `a.b` in FROM is the list `b` in each row of a preceding table `a`."""
        return isinstance(self._engine, BigQuery | Redshift)

    @cached_property
    def functions_name_their_column(self) -> bool:
        """Return whether the only column of a table function is named after the function's alias."""
        return isinstance(self._engine, Postgres) or self.dialect == "duckdb"

    @cached_property
    def no_paren_functions(self) -> frozenset[str]:
        """Return the functions without brackets that can be confused with columns."""
        return frozenset(
            " ".join(words for kind, words in NO_PAREN_FUNCTIONS.items() if isinstance(self._engine, kind)).split()
        )

    @cached_property
    def no_paren_functions_may_be_columns(self) -> bool:
        """Return whether a table can have a column with the name of such a function, without quotes."""
        return not isinstance(self._engine, Postgres | Snowflake)

    @cached_property
    def columns_hide_no_paren_functions(self) -> bool:
        """Return whether a column takes precedence over a function without brackets of the same name."""
        return isinstance(self._engine, DuckDB | Spark)

    @cached_property
    def qualified_star_counts_all_rows(self) -> bool | None:
        """Return whether `count(t.*)` counts all rows of `t` rather than those without a null; None if not known."""
        if isinstance(self._engine, Redshift | BigQuery):
            return None
        return isinstance(self._engine, Postgres | DuckDB)

    def star_is_an_argument(self, function: exp.Expr) -> bool:
        """Return whether `*` in the brackets of a function stands for all columns; in DuckDB it is nothing."""
        return not isinstance(self._engine, DuckDB) or isinstance(function, exp.Count)

    def is_date_part(self, name: str) -> bool:
        """Return whether an unquoted name in a function's arguments may be a keyword for a date part."""
        if isinstance(self._engine, Redshift | Snowflake):
            return name.upper() in DATE_PARTS | ABBREVIATED
        return isinstance(self._engine, BigQuery) and name.upper() in DATE_PARTS

    def is_no_paren_function(self, identifier: exp.Expr) -> bool:
        """Return whether an identifier may be a function without brackets."""
        return not identifier.args.get("quoted") and identifier.name.lower() in self.no_paren_functions

    @property
    def natural_join_ignores_case(self) -> bool:
        """Return whether `natural join` merges two columns with different spellings; Spark does not."""
        return self.dialect == "duckdb"

    def stored(self, name: str, *, quoted: bool = False) -> str:
        """Return a name as the engine stores it."""
        if isinstance(self._engine, Redshift):
            return name.lower()  # quoted or not, unless a session asks otherwise
        if quoted:
            return name
        if self._strategy is NormalizationStrategy.UPPERCASE:
            return name.upper()
        return name.lower() if isinstance(self._engine, Postgres) else name

    def spelled(self, identifier: exp.Expr) -> str:
        """Return an identifier as the engine stores it."""
        return self.stored(identifier.name, quoted=bool(identifier.args.get("quoted")))

    def key(self, name: str) -> str:
        """Return the comparison key of a name as stored: two names with equal keys are one column."""
        return name.lower() if self.keeps_spelling else name

    def table_key(self, identifier: exp.Expr) -> str:
        """Return the comparison key of an identifier: two with equal keys name one table, schema or alias."""
        return self.key(self.spelled(identifier))

    def inner_name(self, expression: exp.Expr) -> exp.Expr | None:
        """Return the identifier that names the column of an expression without an alias, if the engine uses one."""
        if isinstance(expression, exp.Column | exp.Dot):
            name = expression.this if isinstance(expression, exp.Column) else expression.expression
            return name if isinstance(name, exp.Identifier) else None
        if isinstance(expression, exp.Paren) and (isinstance(self._engine, Postgres) or self.dialect == "duckdb"):
            return self.inner_name(expression.this)
        if isinstance(expression, exp.Cast) and isinstance(self._engine, Postgres):
            name = self.inner_name(expression.this)
            return None if name is not None and name.name == "case" else name  # the type's name precedes `case`
        if isinstance(expression, exp.Case) and type(self._engine) is Postgres:
            default = expression.args.get("default")
            if default is None or isinstance(default, exp.Literal | exp.Null | exp.Boolean | exp.Neg):
                return exp.to_identifier("case")
            return self.inner_name(default)
        if isinstance(expression, SAME_NAMES) and type(self._engine) is Postgres:
            return exp.to_identifier(expression.key)
        return None

    def value_names(self, count: int) -> list[str] | None:
        """Return the names of the columns of VALUES, if known."""
        names = range(1, count + 1)
        if isinstance(self._engine, Spark):
            return [f"col{position}" for position in names]
        if self.dialect == "duckdb":
            return [f"col{position - 1}" for position in names]
        if isinstance(self._engine, Snowflake):
            return [f"COLUMN{position}" for position in names]
        is_postgres = isinstance(self._engine, Postgres) and not isinstance(self._engine, Redshift)
        return [f"column{position}" for position in names] if is_postgres else None

    def function_columns(self, function: exp.Expr) -> list[str]:
        """Return the names of the columns of a table function, if known."""
        return SNOWFLAKE_FUNCTIONS.get(type(function), []) if isinstance(self._engine, Snowflake) else []

    def numbered(self, names: Sequence[str]) -> list[str]:
        """Return the names that DuckDB gives to a table's columns if its query's columns are `names`."""
        counts: dict[str, int] = {}
        numbered = []
        for name in names:
            new = name
            if name and self.key(name) in counts:
                number = counts[self.key(name)]
                while self.key(new := f"{name}_{number}") in counts:
                    number += 1
                counts[self.key(name)] = number + 1
            if name:
                counts[self.key(new)] = 1
            numbered.append(new)
        return numbered

    def duplicates(self, names: Iterable[str]) -> set[str]:
        """Return the keys of names that occur more than once."""
        keys = [self.key(name) for name in names if name]
        return {key for key in keys if keys.count(key) > 1}


def fold(name: str, dialect: str, *, quoted: bool = False) -> str:
    """Return a column's name as the engine stores it."""
    return Names(dialect).stored(name, quoted=quoted)
