"""The parsing of SQL by sqlglot, with fixes for words that sqlglot would drop or misread.

In `date_trunc(grain, ts)` some engines accept any expression as the unit, but sqlglot takes it for a keyword and loses
the column. It also always takes `current_date` for the function, even if a column of that name takes precedence.
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

# Date functions. In most of them, sqlglot takes one argument for a keyword, because it is one in some engine.
UNIT_FUNCTIONS = frozenset(
    f"{kind}{action}"
    for kind in ("date", "datetime", "time", "timestamp", "date_", "datetime_", "time_", "timestamp_", "ts_or_ds_")
    for action in ("add", "bin", "bucket", "diff", "part", "slice", "sub", "trunc")
) | {"last_day", "last_day_of_month"}

# Functions in which Spark's grammar has a keyword as well.
SPARK_KEYWORDS = {"date_add", "date_diff", "dateadd", "datediff", "timestampadd", "timestampdiff"}


def parsed(sql: str, names: Names) -> exp.Expr:
    """Return the tree of the first statement of `sql`.

    Raises:
        SqlglotError: The SQL cannot be parsed, or there is no statement.
    """
    dialect = Dialect.get_or_raise(names.dialect)
    tokens = _with_whole_numbers(dialect.tokenize(sql), dialect)
    _keep_columns(tokens, dialect, names)
    trees = dialect.parser().parse(tokens, sql)
    if not trees or trees[0] is None:
        msg = f"No expression was parsed from '{sql}'"
        raise ParseError(msg)
    return trees[0]


def _with_whole_numbers(tokens: list[Token], dialect: Dialect) -> list[Token]:
    """Return the tokens with numbers such as `1_000` in one piece, which sqlglot takes for `1 as _000`."""
    if isinstance(dialect, DuckDB):  # sqlglot follows DuckDB, where `0x1F` is `0 as x1F`
        return tokens
    whole: list[Token] = []
    for token in tokens:
        before = whole[-1] if whole else None
        is_rest = token.token_type == TokenType.VAR and (token.text.startswith("_") or token.text[0] in "xXoObB")
        if before and before.token_type == TokenType.NUMBER and is_rest and before.end + 1 == token.start:
            before.text += token.text
        else:
            whole.append(token)
    return whole


def _keep_columns(tokens: list[Token], dialect: Dialect, names: Names) -> None:
    """Change the tokens of words that sqlglot would misread."""
    functions = _functions_of_expressions(dialect)
    words = dialect.parser_class.NO_PAREN_FUNCTIONS if names.no_paren_functions_may_be_columns else {}
    for token, after in pairwise([*tokens, Token(TokenType.SEMICOLON, ";")]):
        is_called = after.token_type == TokenType.L_PAREN
        if token.token_type in {TokenType.IDENTIFIER, TokenType.STRING}:
            continue
        if is_called and token.text.lower() in functions:
            token.text += "_"  # in a function that sqlglot does not know, all arguments are expressions
        elif not is_called and token.token_type in words:
            token.token_type = TokenType.VAR
        elif not is_called and isinstance(dialect, Databricks) and token.text.lower() == "curdate":
            token.token_type = TokenType.IDENTIFIER  # `curdate` is a function only with brackets


def _functions_of_expressions(dialect: Dialect) -> frozenset[str]:
    """Return the functions whose unit may be any expression."""
    match dialect:
        case Redshift():
            return UNIT_FUNCTIONS - {"date_add", "date_diff", "date_part", "dateadd", "datediff"}
        case Spark():
            return UNIT_FUNCTIONS - SPARK_KEYWORDS | {"trunc"}
        case Postgres() | DuckDB():
            return UNIT_FUNCTIONS
    return frozenset()
