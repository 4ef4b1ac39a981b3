"""The batches of microbatch models, whose events dbt logs under the model's id.

In: dbt's node events, those that it prints and the `NodeFinished` ones of its debug log. Out: which models have
batches, and why a model's batches failed. Only its start time distinguishes a batch's event from the model's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

PREFIX = "Exception on worker thread. "


class Batches:
    """The batches of one dbt command, by their model's unique id."""

    def __init__(self) -> None:
        self._totals: dict[str, int] = {}
        self._failed: dict[str, dict[str, str]] = {}
        self._skipped: dict[str, int] = {}
        self._errors: dict[tuple[str, str], str] = {}

    def record(self, name: str, data: Mapping[str, Any]) -> None:
        """Record a printed event if it concerns a batch; ignore any other."""
        if name not in {"LogStartBatch", "LogBatchResult", "GenericExceptionOnRun"}:
            return
        node = data["node_info"]
        unique_id, start = str(node["unique_id"]), str(node.get("node_started_at"))
        if name == "GenericExceptionOnRun":
            self._errors[unique_id, start] = str(data.get("exc") or "").removeprefix(PREFIX)
            return
        self._totals[unique_id] = data.get("total_batches", 0)
        if data.get("status") == "error":
            self._failed.setdefault(unique_id, {})[start] = str(data.get("description"))
        elif data.get("status") == "skipped":
            self._skipped[unique_id] = self._skipped.get(unique_id, 0) + 1

    def __contains__(self, unique_id: str) -> bool:
        """Return whether a node is known to have batches."""
        return unique_id in self._totals

    def failure(self, unique_id: str, finished: Iterable[Mapping[str, Any]]) -> str | None:
        """Return why batches of a node failed: the error of the first one, and the number of failed batches.

        Args:
            unique_id: Unique id of the model.
            finished: The `NodeFinished` events under this id in the debug log; only they contain compilation errors.
        """
        failed = self._failed.get(unique_id)
        if not failed:
            return None
        start, description = next(iter(failed.items()))
        error = self._errors.get((unique_id, start)) or _message(start, finished)
        counts = f"{len(failed)} of {self._totals[unique_id]} batches failed"
        if skipped := self._skipped.get(unique_id):
            counts += f", {skipped} skipped"
        return f"{error}\n\nin {description}: {counts}" if error else f"{description}: {counts}"


def _message(start: str, finished: Iterable[Mapping[str, Any]]) -> str:
    for event in finished:
        if event["data"]["node_info"].get("node_started_at") == start:
            return str(event["data"]["run_result"].get("message") or "")
    return ""
