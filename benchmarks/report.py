"""results.json as Markdown tables, and the bounds that the figures are held to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks import dead, emitter, green, load, observed, peers, rendering

Rows = Mapping[str, Any]
SLOWER = 1.05
MORE_MB = 40.0


@dataclass(frozen=True, slots=True)
class Bound:
    """A figure and what it may be at most."""

    what: str
    figure: float
    at_most: float

    @property
    def holds(self) -> bool:
        """Say whether the figure is within the bound."""
        return self.figure <= self.at_most

    def __str__(self) -> str:
        """Return it on one line."""
        return f"{self.what}: {self.figure:g}, at most {self.at_most:g}"


def bounds(results: Mapping[str, Any]) -> Iterator[Bound]:
    """Yield the bounds on what was measured."""
    rows = {name: section["rows"] for name, section in results.items()}
    for tables in ("400", "1000"):
        if row := rows.get("observed", {}).get(tables):
            for key, name in (("wall_s", "wall"), ("cpu_s", "CPU")):
                yield Bound(f"observed/stock {name}, {tables} tables", _ratio(row, "observed", key), SLOWER)
            yield Bound(f"observed - stock MB, {tables} tables", row["more"]["observed"]["memory_mb"], MORE_MB)
    if row := rows.get("load", {}).get("2000 validate"):
        yield Bound("code location load/stock, 2000 tables", _ratio(row, "observed", "wall_s"), SLOWER)
    if found := rows.get("peers"):
        least = min(each["cpu_s"] for each in found["dbt build"]["more"].values())
        yield Bound(
            "CPU seconds over the bare run, at most dbt-ol's", found["dg launch"]["more"]["floe"]["cpu_s"], least
        )
        yield Bound("wrong facts", sum(found["dg launch"]["facts"]["floe"]["wrong"].values()), 0)
    if found := rows.get("emitter"):
        yield Bound("CPU a node, most tables/fewest", found["ratio"], emitter.ALLOWED)


def _ratio(row: Rows, side: str, key: str) -> float:
    return float(row["ratio"][side][key]["median"])


def markdown(results: Mapping[str, Any]) -> str:
    """Return all that was measured as one page."""
    parts = [
        "# Figures",
        "Made by `uvx nox -s bench` from `results.json`; do not edit. Sides run in turn on one machine; figures are "
        "medians. A ratio is the median of the ratios of neighbouring runs, in brackets the lowest and the highest. "
        "CPU is user and system time of the whole tree of processes. Memory is the peak of the largest process, dbt's "
        "left out.",
    ]
    if held := list(bounds(results)):
        parts += [
            "## Bounds",
            table([{"": "holds" if each.holds else "**broken**", "Bound": str(each)} for each in held]),
        ]
    versions = ""
    for name, (title, module, rows) in SECTIONS.items():
        if name in results:
            parts += [f"## {title}", paragraphs(module.__doc__ or ""), *rows(results[name]["rows"])]
            on = results[name]["on"]
            before, versions = versions, ", ".join(f"{each} {number}" for each, number in on["versions"].items())
            with_these = "the versions above" if versions == before else versions
            parts.append(f"<sub>{on['date']}; {on['machine']}; load before {on['load_before']}; {with_these}</sub>")
    return "\n\n".join(parts) + "\n"


def paragraphs(text: str) -> str:
    """Return a docstring with each paragraph on one line."""
    return "\n\n".join(" ".join(each.split()) for each in text.strip().split("\n\n"))


def table(rows: list[dict[str, Any]]) -> str:
    """Return rows, all with the same keys, as a Markdown table."""
    lines = [list(rows[0]), ["---"] * len(rows[0]), *([str(cell) for cell in row.values()] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _versus(row: Rows, side: str, base: str) -> dict[str, str]:
    """Return the cells that compare a side with its base."""
    cells = {}
    for key, name in (("wall_s", "wall s"), ("cpu_s", "CPU s")):
        ratio = row["ratio"][side][key]
        cells[name] = f"{row['median'][base][key]} → {row['median'][side][key]}"
        cells[f"{name[:-2]} ratio"] = f"**{ratio['median']}** ({ratio['from']}-{ratio['to']})"
    cells["memory MB"] = f"{row['median'][base]['memory_mb']:.0f} {row['more'][side]['memory_mb']:+.0f}"
    return cells


def _observed(rows: Rows) -> Iterator[str]:
    yield table(
        [
            {
                "tables": name,
                "nodes": row["nodes"],
                "repeats": row["repeats"],
                **_versus(row, "observed", "stock"),
                "CPU ms a node over stock": row["cpu_ms_a_node"],
                "events, spans a run": f"{row['events_a_run']}, {row['spans_a_run']}",
            }
            for name, row in rows.items()
        ]
    )


def _peers(rows: Rows) -> Iterator[str]:
    yield table(
        [
            {
                "": f"{side} over {row['bare']}",
                "repeats": row["repeats"],
                "wall s": f"{row['median'][row['bare']]['wall_s']} {row['more'][side]['wall_s']:+}",
                "CPU s": f"{row['median'][row['bare']]['cpu_s']} {row['more'][side]['cpu_s']:+}",
                "wall ratio": row["ratio"][side]["wall_s"]["median"],
                "CPU ratio": row["ratio"][side]["cpu_s"]["median"],
                "memory of all processes MB": f"{row['more'][side]['tree_mb']:+.0f}",
            }
            for row in rows.values()
            for side in row["facts"]
        ]
    )
    found = {side: facts for row in rows.values() for side, facts in row["facts"].items()}
    first = next(iter(found.values()))
    lines = [{"": key, **{side: each[key] for side, each in found.items()}} for key in first if key != "wrong"]
    lines += [
        {"": f"wrong: {key}", **{side: each["wrong"][key] for side, each in found.items()}} for key in first["wrong"]
    ]
    yield table(lines)


def _dead(rows: Rows) -> Iterator[str]:
    row = rows["dead"]
    yield table(
        [
            {"endpoints": side, **_versus(row, side, "healthy"), "wall s more": row["more"][side]["wall_s"]}
            for side in row["ratio"]
        ]
    )


def _load(rows: Rows) -> Iterator[str]:
    yield table(
        [
            {"tables, measure": name, "repeats": row["repeats"], **_versus(row, "observed", "stock")}
            for name, row in rows.items()
        ]
    )


def _rendering(rows: Rows) -> Iterator[str]:
    row = rows["rendering"]
    yield table(
        [
            {
                "template": name,
                "files": row["files"][name],
                "wall s": row["median"][name]["wall_s"],
                "CPU s": row["median"][name]["cpu_s"],
                "CPU ms a file": round(1000 * row["median"][name]["cpu_s"] / row["files"][name], 1),
                "renders a second in process": within["renders_per_s"],
                "CPU s in process": within["cpu_s"],
            }
            for name, within in row["in_process"].items()
        ]
    )


def _green(rows: Rows) -> Iterator[str]:
    row = rows["green"]
    yield table(
        [
            {
                "": name,
                "commands typed": len(did["commands"]),
                "files edited by hand": len(did["edits"]),
                "seconds": row["median"][name]["wall_s"],
                "dbt nodes green": did["dbt nodes green"],
            }
            for name, did in row["did"].items()
        ]
    )
    for name, did in row["did"].items():
        edits = "".join(f"\n# edited: {file}" for file in did["edits"])
        yield f"{name}:\n\n```sh\n" + "\n".join(did["commands"]) + f"{edits}\n```"


def _emitter(rows: Rows) -> Iterator[str]:
    yield table([{"tables": name, **row} for name, row in rows["sizes"].items()])


SECTIONS: Mapping[str, tuple[str, Any, Callable[[Rows], Iterator[str]]]] = {
    "observed": ("Observed against stock", observed, _observed),
    "peers": ("Against other emitters", peers, _peers),
    "dead": ("Dead endpoints", dead, _dead),
    "load": ("Code location load", load, _load),
    "rendering": ("Rendering", rendering, _rendering),
    "green": ("From nothing to green", green, _green),
    "emitter": ("A node's lineage", emitter, _emitter),
}
