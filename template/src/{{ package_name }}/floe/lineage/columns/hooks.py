"""Statements that a project adds around a model's own SQL: pre-hooks, post-hooks and `sql_header`.

In: a node, its dialect. Out: why its table may have other columns or values than its SQL says, or None. A statement
counts as harmless only if it certainly is. The manifest has hooks with their Jinja, so a call of a macro is unknown.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import groupby

from ...dbt.manifest_graph import Node, config_of

# Jinja that certainly renders as part of a name. Its value cannot start another statement.
NAME = re.compile(
    r"\{\{-?\s*(?:(?:this|target|model)(?:\.\w+)*|(?:ref|source)\((?:\s*'[^']*'\s*,?|\s*\"[^\"]*\"\s*,?)+\))\s*-?\}\}"
)
# Jinja that renders as nothing, and divides the text into branches.
BRANCH = re.compile(r"[{]%-?\s*(?:else|endif|(?:el)?if\s+(?:[\w.\s'\"=!<>]|is_incremental\(\))+)\s*-?%\}")
COMMENT = re.compile(r"[{]#.*?#\}", re.DOTALL)
JINJA = re.compile(r"[{](?:\{|%)")
PLACEHOLDER = "floe_jinja"
# Statements that change no table, and those of ALTER TABLE that change no column, as words in lower case.
HARMLESS = re.compile(
    r"(?:analyze|vacuum|grant|revoke|comment on|checkpoint|optimize|show|describe|install|load|commit|begin|lock table"
    r"|start transaction|drop index|alter session set query_tag"
    r"|create (?:or replace )?(?:unique |bitmap |clustered |nonclustered |columnstore )*index)\b"
)
HARMLESS_ALTERATION = re.compile(
    r"(?:add|drop|validate) (?:constraint|primary key|foreign key|unique|check)\b|owner to\b|cluster by\b"
    r"|(?:un)?set (?:tags?|tblproperties|options)\b|(?:enable|disable|force) row level security\b"
)
ALTERED = re.compile(r"alter (?:table|view|materialized view) (?:if exists )?(?:only )?\S+ (.*)", re.DOTALL)


def unknown_effect(node: Node, dialect: str) -> str | None:
    """Return which addition to a node's SQL may change the columns or values of its table, or None."""
    config = config_of(node)
    for kind in ("pre-hook", "post-hook"):
        for hook in config.get(kind) or []:
            if not is_harmless(str(hook["sql"] if isinstance(hook, dict) else hook), dialect):
                return f"a {kind} may change the columns or values of the table"
    header = config.get("sql_header")
    if header and not is_harmless(str(header), dialect):
        return "the sql_header may change the meaning of the SQL"
    if any(macro.endswith(".set_sql_header") for macro in node.get("depends_on", {}).get("macros", [])):
        return "the sql_header may change the meaning of the SQL"
    return None


def is_harmless(text: str, dialect: str) -> bool:
    """Return whether all statements of a hook certainly leave columns and values as they are."""
    text = BRANCH.sub(" ; ", NAME.sub(PLACEHOLDER, COMMENT.sub(" ", text)))
    if JINJA.search(text):
        return False
    return all(_is_harmless(words, dialect) for words in _statements(text, dialect))


def _statements(text: str, dialect: str) -> Iterator[list[str]]:
    """Yield the words of each statement, a text or a quoted name with its quotes; of no SQL, one unknown word."""
    from sqlglot import TokenType, tokenize  # imported only if a project has hooks
    from sqlglot.errors import SqlglotError

    try:
        tokens = tokenize(text, read=dialect)
    except (SqlglotError, ValueError):
        yield ["?"]
        return
    for is_end, statement in groupby(tokens, key=lambda token: token.token_type is TokenType.SEMICOLON):
        if not is_end:
            yield [text[token.start : token.end + 1].lower() for token in statement]


def _is_harmless(words: Sequence[str], dialect: str) -> bool:
    text = " ".join(" ".join(words).split()).replace(" . ", ".")
    if HARMLESS.match(text):
        return True
    if words[0] == "select":
        return _only_reads(text, dialect)
    if altered := ALTERED.match(text):
        return all(HARMLESS_ALTERATION.match(action) for action in _actions(altered[1]))
    return False


def _only_reads(text: str, dialect: str) -> bool:
    """Return whether a select stores nothing and calls no function of the project, which may do anything."""
    from sqlglot import exp, parse_one
    from sqlglot.errors import SqlglotError

    try:
        tree = parse_one(text, read=dialect)
    except (SqlglotError, ValueError):
        return False
    return isinstance(tree, exp.Query) and tree.find(exp.Into, exp.Anonymous, exp.Command) is None


def _actions(text: str) -> Iterator[str]:
    """Yield the parts of a text between commas that are in no parentheses."""
    depth, start = 0, 0
    for position, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if character == "," and depth == 0:
            yield text[start:position].strip()
            start = position + 1
    yield text[start:].strip()
