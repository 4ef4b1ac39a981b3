"""Shapes of SQL, changed and combined at random to resemble unknown users' queries."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sqlglot import exp, parse_one
from sqlglot.errors import SqlglotError

from tools.sql.shapes import Shape, present


@dataclass(frozen=True)
class _Means:
    """What a change is made with: chance, and the shapes of a dialect."""

    chance: random.Random
    shapes: list[Shape]
    dialect: str


def mutants(dialect: str, count: int, seed: int) -> Iterator[str]:
    """Yield queries in a dialect, each a shape that one to three changes were made to."""
    chance = random.Random(f"{dialect} {seed}")
    shapes = [shape for shape in present() if shape.dialect == dialect and _is_plain(shape)]
    means = _Means(chance, shapes, dialect)
    while count:
        shape = chance.choice(shapes)
        try:
            tree = parse_one(shape.answer.sql if shape.answer else "", dialect=dialect)
            for change in chance.choices(CHANGES, k=chance.randint(1, 3)):
                tree = change(tree, means)
            sql = tree.sql(dialect)
        except SqlglotError:
            continue  # such as a column of a statement that is no query
        count -= 1
        yield sql


def _is_plain(shape: Shape) -> bool:
    return shape.answer is not None and not shape.answer.engine and not shape.answer.problem


def _selects(tree: exp.Expr) -> list[exp.Select]:
    return list(tree.find_all(exp.Select))


def _wrapped(tree: exp.Expr, using: _Means) -> exp.Expr:
    star = using.chance.choice(("*", "w.*", "*, 1 as one", "w"))
    return parse_one(f"select {star} from ({tree.sql(using.dialect)}) as w", dialect=using.dialect)


def _in_with(tree: exp.Expr, using: _Means) -> exp.Expr:
    # Also by the name of a table, which it then hides.
    name = using.chance.choice(("w", "orders", "customers", "t"))
    return parse_one(f"with {name} as ({tree.sql(using.dialect)}) select * from {name}", dialect=using.dialect)


def _in_join(tree: exp.Expr, using: _Means) -> exp.Expr:
    kind = using.chance.choice(("join", "left join", "right join", "full join"))
    on = using.chance.choice(("on w.id = j.id", "using (id)"))
    projection = using.chance.choice(("*", "w.*, j.name as other", "w.*", "j.*", "id"))
    sql = f"select {projection} from ({tree.sql(using.dialect)}) as w {kind} shop.suppliers as j {on}"
    return parse_one(sql, dialect=using.dialect)


def _combined(tree: exp.Expr, using: _Means) -> exp.Expr:
    other = using.chance.choice(using.shapes)
    right = parse_one(other.answer.sql if other.answer else "", dialect=using.dialect)
    if using.chance.random() < 0.5:
        right = tree.copy()
    word = using.chance.choice(("union all", "union distinct", "except distinct", "intersect distinct"))
    by_name = " by name" if using.dialect == "duckdb" and word == "union all" and using.chance.random() < 0.5 else ""
    if using.dialect != "bigquery":
        word = word.replace(" distinct", "")
    sides = [f"select * from ({side.sql(using.dialect)}) as {name}" for name, side in (("l", tree), ("r", right))]
    return parse_one(f"{sides[0]} {word}{by_name} {sides[1]}", dialect=using.dialect)


def _without_alias(tree: exp.Expr, using: _Means) -> exp.Expr:
    aliases = [alias for select in _selects(tree) for alias in select.expressions if isinstance(alias, exp.Alias)]
    if aliases:
        alias = using.chance.choice(aliases)
        alias.replace(alias.this)
    return tree


def _with_alias(tree: exp.Expr, using: _Means) -> exp.Expr:
    items = [
        item
        for select in _selects(tree)
        for item in select.expressions
        if isinstance(item, exp.Column) and not isinstance(item.this, exp.Star)
    ]
    if items:
        item = using.chance.choice(items)
        item.replace(
            exp.alias_(item.copy(), using.chance.choice(("id", "amount", "status", "name", "x")), quoted=False)
        )
    return tree


def _with_star(tree: exp.Expr, using: _Means) -> exp.Expr:
    if selects := _selects(tree):
        select = using.chance.choice(selects)
        select.set("expressions", [*select.expressions, exp.Star()])
    return tree


def _without_clause(tree: exp.Expr, using: _Means) -> exp.Expr:
    if selects := _selects(tree):
        select = using.chance.choice(selects)
        clauses = [name for name in ("where", "group", "having", "order", "limit", "qualify") if select.args.get(name)]
        if clauses:
            clause = using.chance.choice(clauses)
            select.set(clause, None)
            if clause == "order":
                select.set("limit", None)  # which rows it would keep is the engine's choice
    return tree


def _with_clause(tree: exp.Expr, using: _Means) -> exp.Expr:
    queries = [query for query in tree.find_all(exp.Query) if isinstance(query, exp.Select | exp.SetOperation)]
    query = using.chance.choice(queries) if queries else None
    if isinstance(query, exp.Select):
        match using.chance.choice(("distinct", "where", "order", "position")):
            case "distinct":
                query.set("distinct", exp.Distinct())
            case "where":
                query.where("id > 1", copy=False, dialect=using.dialect)
            case "order":
                query.order_by("id desc", copy=False, dialect=using.dialect).limit(3, copy=False)
            case _:
                query.order_by("1", copy=False, dialect=using.dialect).limit(3, copy=False)
    return tree


def _other_join(tree: exp.Expr, using: _Means) -> exp.Expr:
    joins = [join for join in tree.find_all(exp.Join) if join.args.get("on") or join.args.get("using")]
    if joins:
        join = using.chance.choice(joins)
        join.set("side", using.chance.choice((None, "LEFT", "RIGHT", "FULL")))
        if using.chance.random() < 0.3:
            join.set("on", None)
            join.set("using", [exp.to_identifier("id")])
    return tree


def _in_capitals(tree: exp.Expr, using: _Means) -> exp.Expr:
    columns = [column for column in tree.find_all(exp.Column) if isinstance(column.this, exp.Identifier)]
    if columns:
        column = using.chance.choice(columns)
        column.this.set("this", column.this.name.upper())
        is_plain = column.this.name.isidentifier()  # else it stands only in quotes
        column.this.set("quoted", using.chance.random() < 0.2 or not is_plain)
    return tree


def _unqualified(tree: exp.Expr, using: _Means) -> exp.Expr:
    columns = [column for column in tree.find_all(exp.Column) if column.args.get("table")]
    if columns:
        using.chance.choice(columns).set("table", None)
    return tree


def _expression(tree: exp.Expr, using: _Means) -> exp.Expr:
    columns = [
        column
        for column in tree.find_all(exp.Column)
        if isinstance(column.this, exp.Identifier) and isinstance(column.parent, exp.Select | exp.Alias | exp.Where)
    ]
    if columns:
        column = using.chance.choice(columns)
        text = column.sql(using.dialect)
        patterns = (
            "coalesce({0}, {0})",
            "case when {0} is null then {0} end",
            "max({0}) over ()",
            "(select max({0}))",
            "({0})",
            "(select max(z.paid) from shop.payments as z where z.order_id = id)",
        )
        column.replace(parse_one(using.chance.choice(patterns).format(text), dialect=using.dialect))
    return tree


CHANGES: tuple[Callable[[exp.Expr, _Means], exp.Expr], ...] = (
    _wrapped,
    _in_with,
    _in_join,
    _combined,
    _without_alias,
    _with_alias,
    _with_star,
    _without_clause,
    _with_clause,
    _other_join,
    _in_capitals,
    _unqualified,
    _expression,
)
