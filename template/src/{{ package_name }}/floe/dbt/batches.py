"""The batches of microbatch models, whose events dbt writes under the id of the model.

In: dbt's events of nodes, those that it prints and the `NodeFinished` ones of its debug log. Out: which models have
batches, and why the batches of a model failed. Only the time of its start tells a batch's event from the model's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

PREFIX = "Exception on worker thread. "


class Batches:
    """The batches of one dbt command, by the unique id of their model."""

    def __init__(self) -> None:
        self._totals: dict[str, int] = {}
        self._failed: dict[str, dict[str, str]] = {}
        self._skipped: dict[str, int] = {}
        self._errors: dict[tuple[str, str], str] = {}

    def record(self, name: str, data: Mapping[str, Any]) -> None:
        """Take note of an event that dbt has printed, of whatever name."""
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
        """Say whether a node is known to have batches."""
        return unique_id in self._totals

    def failure(self, unique_id: str, finished: Iterable[Mapping[str, Any]]) -> str | None:
        """Return why batches of a node failed: the first one's error, and how many there are.

        Args:
            unique_id: The model's.
            finished: The `NodeFinished` events under this id in the debug log: they alone have compilation errors.
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
