"""The reason why a dbt command failed: its first failed node, with dbt's own message.

dagster-dbt's error begins with the command line and with where to look, which says nothing of the reason.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .hooks import FailedHooks
    from .node_events import NodeFinished

# What dagster-dbt's error says before dbt's own messages, if it has any.
PREAMBLE = re.compile(
    r"The dbt CLI process with command\s+`.*?`\s+failed with exit code `(?P<code>[^`]*)`"
    r"(?:.*?Errors parsed from dbt logs:(?P<messages>.*)|.*)",
    re.DOTALL,
)


class Failures:
    """The nodes and hooks of one dbt command that have failed."""

    def __init__(self, hooks: FailedHooks) -> None:
        """Take the hooks of the command that have failed; they are counted there."""
        self._hooks = hooks
        self._first = ""
        self._nodes = 0
        self._hook_was_first = False

    def __bool__(self) -> bool:
        """Say whether a node or a hook has failed."""
        return self._nodes > 0 or bool(self._hooks)

    def add(self, end: NodeFinished) -> None:
        """Take the end of a node that has failed, not of a hook."""
        if self._nodes == 0:
            self._first = f"{end.unique_id}: {end.message or end.status}"
            self._hook_was_first = bool(self._hooks)
        self._nodes += 1

    def reason(self) -> str:
        """Return the first failure with its message, how many other nodes failed, and the other hooks."""
        others = self._nodes - 1
        nodes = self._first
        if others > 0:
            nodes += f"\n\n{others} other {'node' if others == 1 else 'nodes'} failed as well."
        hooks = self._hooks.reason("")
        return "\n\n".join(filter(None, (hooks, nodes) if self._hook_was_first else (nodes, hooks)))


def dbt_message(text: str) -> str:
    """Return dbt's own messages in the text of dagster-dbt's error; any other text as it is."""
    match = PREAMBLE.match(text)
    if match is None:
        return text
    messages = (match["messages"] or "").strip()
    return messages or f"dbt ended with exit code {match['code']} and gave no reason; see its lines in the run's log."
