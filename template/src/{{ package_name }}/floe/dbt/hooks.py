"""The failed on-run-start and on-run-end hooks of a dbt command.

In: the end of each failed hook, and dbt's message for it, which dbt logs only after everything else. Out: the end with
its message, and the reasons for a failed command and for the nodes that dbt skips.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .node_events import NodeFinished


class FailedHooks:
    """The failed hooks of one dbt command, in order."""

    def __init__(self) -> None:
        self._ends: dict[str, NodeFinished] = {}
        self._waiting: set[str] = set()

    def __bool__(self) -> bool:
        """Return whether a hook has failed."""
        return bool(self._ends)

    def take(self, end: NodeFinished) -> Iterator[NodeFinished]:
        """Add the end of a failed hook. Yield it if its message is known; otherwise `explain` or `unexplained` does."""
        self._ends[end.unique_id] = end
        if end.message:
            yield end
        else:
            self._waiting.add(end.unique_id)

    def explain(self, unique_id: str, message: str) -> Iterator[NodeFinished]:
        """Yield the hook's end with its message, if the end was waiting for it."""
        if unique_id in self._waiting:
            self._waiting.discard(unique_id)
            self._ends[unique_id] = end = replace(self._ends[unique_id], message=message)
            yield end

    def unexplained(self) -> Iterator[NodeFinished]:
        """Yield the ends that are still waiting for a message, and stop waiting."""
        waiting, self._waiting = self._waiting, set()
        yield from (end for unique_id, end in self._ends.items() if unique_id in waiting)

    def reason(self, message: str) -> str:
        """Return `message`, the reason for the command's failure, plus the hook failures that it does not mention."""
        hooks = (end.message or f"{unique_id} failed" for unique_id, end in self._ends.items())
        return "\n\n".join(filter(None, [message, *(text for text in hooks if text not in message)]))

    def skip_reason(self) -> str | None:
        """Return why dbt skips a node before any node was executed: `skip_nodes_if_on_run_start_fails` is set."""
        return f"dbt skipped this node: {', '.join(self._ends)} failed" if self._ends else None
