"""The reason why a dbt command failed: its first failed node, with dbt's own message.

dagster-dbt's error starts with the command line and where to look, which does not explain the failure.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .hooks import FailedHooks
    from .node_events import NodeFinished

# The text of dagster-dbt's error before dbt's own messages, if it has any.
PREAMBLE = re.compile(
    r"The dbt CLI process with command\s+`.*?`\s+failed with exit code `(?P<code>[^`]*)`"
    r"(?:.*?Errors parsed from dbt logs:(?P<messages>.*)|.*)",
    re.DOTALL,
)


class Failures:
    """The failed nodes and hooks of one dbt command."""

    def __init__(self, hooks: FailedHooks) -> None:
        """Use `hooks` for the command's failed hooks, which are counted there."""
        self._hooks = hooks
        self._first = ""
        self._nodes = 0
        self._hook_was_first = False

    def __bool__(self) -> bool:
        """Return whether a node or a hook has failed."""
        return self._nodes > 0 or bool(self._hooks)

    def add(self, end: NodeFinished) -> None:
        """Add the end of a failed node; hooks are added to `FailedHooks`."""
        if self._nodes == 0:
            self._first = f"{end.unique_id}: {end.message or end.status}"
            self._hook_was_first = bool(self._hooks)
        self._nodes += 1

    def reason(self) -> str:
        """Return the first failure with its message, the number of other failed nodes, and the failed hooks."""
        others = self._nodes - 1
        nodes = self._first
        if others > 0:
            nodes += f"\n\n{others} other {'node' if others == 1 else 'nodes'} failed as well."
        hooks = self._hooks.reason("")
        return "\n\n".join(filter(None, (hooks, nodes) if self._hook_was_first else (nodes, hooks)))


def dbt_message(text: str) -> str:
    """Return dbt's own messages from the text of dagster-dbt's error; return any other text unchanged."""
    match = PREAMBLE.match(text)
    if match is None:
        return text
    messages = (match["messages"] or "").strip()
    return messages or f"dbt exited with code {match['code']} and gave no reason; see its output in the run's log."
