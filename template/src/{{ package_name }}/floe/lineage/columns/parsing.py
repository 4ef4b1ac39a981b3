"""The parsing of SQL by sqlglot, without the words that sqlglot would drop or misread.

Where an engine takes any expression, sqlglot takes the unit of `date_trunc(grain, ts)` for a keyword and forgets the
column. And it always takes `current_date` for the function, also where a column of that name comes first.
"""

from __future__ import annotations

from itertools import pairwise

from sqlglot import exp
from sqlglot.dialects.databricks import Databricks
from sqlglot.dialects.dialect import Dialect
from sqlglot.dialects.duckdb import DuckDB
from sqlglot.dialects.postgres import Postgres
from sqlglot.dialects.redshift import Redshift
from sqlglot.dialects.spark import Spark
from sqlglot.errors import ParseError
from sqlglot.tokenizer_core import Token, TokenType

from .names import Names

# Functions of dates. Of most of them sqlglot takes one argument for a keyword, since it is one in some engine.
UNIT_FUNCTIONS = frozenset(
    f"{kind}{action}"
    for kind in ("date", "datetime", "time", "timestamp", "date_", "datetime_", "time_", "timestamp_", "ts_or_ds_")
    for action in ("add", "bin", "bucket", "diff", "part", "slice", "sub", "trunc")
) | {"last_day", "last_day_of_month"}

# Those in which Spark's grammar has a keyword too.
SPARK_KEYWORDS = {"date_add", "date_diff", "dateadd", "datediff", "timestampadd", "timestampdiff"}


def parsed(sql: str, names: Names) -> exp.Expr:
    """Return the tree of the first statement of `sql`.

    Raises:
        SqlglotError: It cannot be read, or there is none.
    """
    dialect = Dialect.get_or_raise(names.dialect)
    tokens = dialect.tokenize(sql)
    _keep_columns(tokens, dialect, names)
    trees = dialect.parser().parse(tokens, sql)
    if not trees or trees[0] is None:
        msg = f"No expression was parsed from '{sql}'"
        raise ParseError(msg)
    return trees[0]


def _keep_columns(tokens: list[Token], dialect: Dialect, names: Names) -> None:
    """Change the tokens of words that sqlglot would misread."""
    functions = _functions_of_expressions(dialect)
    words = dialect.parser_class.NO_PAREN_FUNCTIONS if names.words_may_be_columns else {}
    for token, after in pairwise([*tokens, Token(TokenType.SEMICOLON, ";")]):
        is_called = after.token_type == TokenType.L_PAREN
        if token.token_type in {TokenType.IDENTIFIER, TokenType.STRING}:
            continue
        if is_called and token.text.lower() in functions:
            token.text += "_"  # a function that sqlglot does not know has only expressions for arguments
        elif not is_called and token.token_type in words:
            token.token_type = TokenType.VAR
        elif not is_called and isinstance(dialect, Databricks) and token.text.lower() == "curdate":
            token.token_type = TokenType.IDENTIFIER  # a function with brackets only


def _functions_of_expressions(dialect: Dialect) -> frozenset[str]:
    """Return the functions whose unit is an expression like any other."""
    match dialect:
        case Redshift():
            return UNIT_FUNCTIONS - {"date_add", "date_diff", "date_part", "dateadd", "datediff"}
        case Spark():
            return UNIT_FUNCTIONS - SPARK_KEYWORDS | {"trunc"}
        case Postgres() | DuckDB():
            return UNIT_FUNCTIONS
    return frozenset()
