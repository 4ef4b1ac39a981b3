"""The summary of a failed dbt command for people: the first failure in full, and the others in one line each.

In: the ends of nodes that failed or were skipped, and the command's graph. Out: a text of limited length.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from .manifest_graph import HOOK, Graph, Node, depends_on
from .node_events import NodeFinished, Outcome

MESSAGE_LINES = 20
OTHER_FAILURES = 10
SKIPPED_NAMES = 8
LINE_LENGTH = 110
# The first line of most messages of dbt, which only repeats the name and file of the node or hook.
HEADING = re.compile(r"\w+ Error in \w+ |.* failed, error:$")
# The line above the stack of a Python model, whose error is the last line.
TRACEBACK = "Traceback (most recent call last):"


def summarize(ends: Sequence[NodeFinished], graph: Graph, project_dir: Path) -> str:
    """Return the summary of the failures among `ends`, in the order in which they happened; blank without failures."""
    # dbt explains a failed hook only after everything else.
    failures = sorted((end for end in ends if end.outcome is Outcome.FAIL), key=lambda end: end.at)
    if not failures:
        return ""
    first, *others = failures
    skipped = [end.unique_id for end in ends if end.outcome is Outcome.SKIPPED]
    node = graph.node(first.unique_id)
    lines = [f"Failed first: {_title(node)}{_source_file(node, project_dir)}", *_message(first)]
    if (file := graph.compiled_file(node)) and file.is_file():
        lines.append(f"  compiled: {_relative(file)}")
    if names := [_title(graph.node(unique_id)) for unique_id in _skipped_for(first, others, skipped, graph)]:
        lines.append(f"  skipped because of it: {_capped(names, SKIPPED_NAMES)}")
    if others:
        lines.append("Failed as well:")
        lines += [_line(f"  {_title(graph.node(end.unique_id))}: {_reason(end)}") for end in others[:OTHER_FAILURES]]
        if len(others) > OTHER_FAILURES:
            lines.append(f"  and {len(others) - OTHER_FAILURES} more")
    return "\n".join(["", *lines, "", ""])


def _title(node: Node) -> str:
    return f"{node['resource_type'].replace('_', ' ')} {node.get('name') or node['unique_id']}"


def _source_file(node: Node, project_dir: Path) -> str:
    """Return the node's file in parentheses, if it is a file of this project rather than of an installed package."""
    path = node.get("original_file_path")
    return f" ({_relative(project_dir / path)})" if path and (project_dir / path).is_file() else ""


def _message(end: NodeFinished) -> list[str]:
    lines = (end.message or end.status).strip("\n").splitlines()
    more = len(lines) - MESSAGE_LINES
    lines = [*lines[:MESSAGE_LINES], *([f"… and {more} more lines"] if more > 0 else [])]
    return [f"  {line}".rstrip() for line in lines]


def _reason(end: NodeFinished) -> str:
    """Return the first line of a message that says more than the node's name, or the last of a Python traceback."""
    lines = [line.strip() for line in (end.message or end.status).splitlines() if line.strip()]
    if TRACEBACK in lines:
        return lines[-1]
    return lines[1] if len(lines) > 1 and HEADING.match(lines[0]) else "".join(lines[:1])


def _line(text: str) -> str:
    return text if len(text) <= LINE_LENGTH else f"{text[: LINE_LENGTH - 1]}…"


def _capped(names: Sequence[str], most: int) -> str:
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def _relative(path: Path) -> str:
    """Return a path relative to the current folder, if it is below that."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith(os.pardir) else relative


def _skipped_for(
    failure: NodeFinished, others: Sequence[NodeFinished], skipped: Sequence[str], graph: Graph
) -> list[str]:
    """Return the nodes in `skipped` that are downstream of a failure; of a hook, those downstream of no other."""
    is_hook = failure.resource_type == HOOK
    blocking = {end.unique_id: "" for end in (others if is_hook else [failure])}
    downstream: dict[str, bool] = {}

    def is_downstream(unique_id: str) -> bool:
        if unique_id not in downstream:
            node = graph.node(unique_id)
            is_blocked = bool(graph.blockers(node, blocking))
            downstream[unique_id] = is_blocked or any(is_downstream(upstream) for upstream in depends_on(node))
        return downstream[unique_id]

    return [unique_id for unique_id in skipped if is_downstream(unique_id) != is_hook]
