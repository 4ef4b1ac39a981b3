"""The part of a failed dbt command that the next attempt at a step repeats, with `dbt retry`.

In: `run_results.json` of the failed command. Out: a copy for the next attempt, from which dbt repeats the nodes that
have failed or were skipped, with the arguments of then. A failed test would fail again, because the data are the same:
neither it nor what it has blocked is repeated, unless the owner asks for that.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson

from ..delivery.state_folder import make_state_folder
from .manifest_graph import TEST_TYPES, Graph

# Commands that dbt can retry and that build something.
COMMANDS = {"build", "run", "seed", "snapshot"}
RETRYABLE = {"error", "fail", "skipped", "runtime error", "partial success"}
FILE = "run_results.json"
KEPT_SECONDS = 7 * 86_400  # a run may be executed again "from failure" on another day


class RetryStore:
    """The results of the failed commands of one step, in the state folder, which outlives the process."""

    def __init__(self, state_dir: Path, run_id: str, step_key: str) -> None:
        self._root = state_dir / "retries"
        self._prefix = f"{run_id}.{step_key}."

    def folder(self, call: int) -> Path | None:
        """Return the folder with the results of the step's command number `call`, or None if it has not failed."""
        folder = self._folder(call)
        return folder if (folder / FILE).is_file() else None

    def save(self, call: int, results: Mapping[str, Any]) -> None:
        """Store the results of a failed command.

        Raises:
            OSError: The state folder cannot be written.
        """
        make_state_folder(self._root)
        folder = self._folder(call)
        folder.mkdir(mode=0o700, exist_ok=True)
        (folder / FILE).write_bytes(orjson.dumps(results))
        for old in self._root.iterdir():
            with suppress(OSError):
                if old.stat().st_mtime < time.time() - KEPT_SECONDS:
                    shutil.rmtree(old)

    def clear(self, call: int) -> None:
        """Forget the results of a command, which has succeeded."""
        shutil.rmtree(self._folder(call), ignore_errors=True)

    def _folder(self, call: int) -> Path:
        return self._root / f"{self._prefix}{call}"


def repeatable(results: Mapping[str, Any], graph: Graph, *, with_tests: bool) -> dict[str, Any]:
    """Return results of which `dbt retry` repeats only what may succeed: no failed tests, nor what they block."""
    if with_tests:
        return dict(results)
    failed = {
        result["unique_id"]
        for result in results["results"]
        if result["status"] in {"error", "fail"} and graph.node(result["unique_id"])["resource_type"] in TEST_TYPES
    }
    blocked = _blocked(failed, graph)
    left = [
        result
        for result in results["results"]
        if result["unique_id"] not in failed and not (result["status"] == "skipped" and result["unique_id"] in blocked)
    ]
    return {**results, "results": left}


def is_worth_retrying(results: Mapping[str, Any]) -> bool:
    """Return whether `dbt retry` would repeat anything."""
    return any(result["status"] in RETRYABLE for result in results["results"])


def _blocked(tests: set[str], graph: Graph) -> set[str]:
    """Return the nodes that wait for one of the tests: as in dbt, those that depend on all that it tests."""
    blocked: set[str] = set()
    for test in tests:
        below = [graph.below(tested) for tested in graph.node(test).get("depends_on", {}).get("nodes", ())]
        if below:
            blocked |= set.intersection(*below)
        if test.startswith("unit_test."):  # which dbt runs before the model
            blocked |= set(graph.node(test).get("depends_on", {}).get("nodes", ()))
    return blocked
