"""The table of shapes in template/docs/lineage.md; `python -m tools.sql.table` shows the counts."""

from __future__ import annotations

import re
from collections import Counter
from itertools import groupby

from tools.rendering import REPOSITORY
from tools.sql.shapes import DIALECTS, GROUPS, Answer, Shape, all_shapes

DOCUMENT = REPOSITORY / "template" / "docs" / "lineage.md"
TITLES = {"duckdb": "DuckDB", "postgres": "PostgreSQL", "spark": "Spark", "databricks": "Databricks"} | {
    "snowflake": "Snowflake",
    "bigquery": "BigQuery",
    "redshift": "Redshift",
}
MARKS = {"right": "●", "left out": "◐", "not there": ""}
WIDTH = 72  # of an example, and of what is said of it


def with_shapes(text: str) -> str:
    """Return the document with its generated table replaced by the present one.

    Raises:
        ValueError: The document has lost its markers.
    """
    start, end = re.search(r"<!-- shapes: [^\n]*-->\n", text), text.find("<!-- /shapes -->")
    if start is None or end < 0:
        msg = "docs/lineage.md has lost its markers <!-- shapes: … --> and <!-- /shapes -->"
        raise ValueError(msg)
    return f"{text[: start.end()]}\n{_shapes()}\n{text[end:]}"


def counts() -> str:
    """Return how many shapes are right, left out in part, and not in a dialect, as a Markdown table."""
    outcomes = Counter((shape.dialect, shape.outcome) for shape in all_shapes())
    header = ["", *TITLES.values()]
    rows = [[outcome, *(str(outcomes[dialect, outcome]) for dialect in DIALECTS)] for outcome in MARKS]
    return "\n".join(_row(row) for row in [header, ["---"] + ["---:"] * len(DIALECTS), *rows]) + "\n"


def _shapes() -> str:
    lines = [_row(["Shape", "For example", "Result", *TITLES.values()])]
    lines.append(_row(["---"] * 3 + [":-:"] * len(DIALECTS)))
    for group, shapes in groupby(all_shapes(), key=lambda shape: shape.group):
        lines.append(_row([f"**{GROUPS[group]}**", *[""] * (2 + len(DIALECTS))]))
        lines += [_line(list(of_name)) for _, of_name in groupby(shapes, key=lambda shape: shape.name)]
    return "\n".join(lines) + "\n"


def _line(shapes: list[Shape]) -> str:
    """Return the row of a shape in all dialects; its example is of the first dialect that has it."""
    answer = next(shape.answer for shape in shapes if shape.answer)
    sql = re.sub(r"\b(shop|archive)\.(?=\w)", "", " ".join(answer.sql.split()))
    marks = (MARKS[shape.outcome] for shape in shapes)
    return _row([shapes[0].name, f"`` {_cut(sql)} ``", _said(answer), *marks])


def _said(answer: Answer) -> str:
    """Return the column that says most with what it is made of, and what decides on the rows, as far as it fits."""
    if not answer.columns:
        return "nothing"
    name, origins = max(answer.columns, key=lambda column: sum(not o.endswith(" IDENTITY") for o in column[1]))
    parts = [f"`{name.strip(chr(34))}`: {', '.join(origins) or 'no column'}"]
    parts += [f"rows: {', '.join(answer.rows)}"] if answer.rows else []
    return "; ".join(parts) if len("; ".join(parts)) <= WIDTH else f"{parts[0]} …"


def _cut(text: str) -> str:
    return text if len(text) <= WIDTH else text[: WIDTH - 2].rstrip() + " …"


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


if __name__ == "__main__":
    print(counts())
