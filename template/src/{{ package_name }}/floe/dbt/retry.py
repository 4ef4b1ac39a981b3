"""The part of a dbt command that the next attempt at a step repeats, with `dbt retry`.

In: `run_results.json` of the step's commands. Out: a copy in the state folder, from which dbt repeats the nodes that
have failed or were skipped, with the arguments of the first attempt. A failed test would fail again, because the data
are the same. A further attempt repeats neither it nor what it blocks, unless the owner asks for that.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson

from ..delivery.state_folder import make_state_folder
from .deferral import option
from .manifest_graph import HOOK, Graph

# Commands that dbt can retry and that build something.
COMMANDS = {"build", "run", "seed", "snapshot"}
RETRYABLE = {"error", "fail", "skipped", "runtime error", "partial success"}
FAILED_TEST = "fail"  # a test that cannot run, for example without a connection, has the status "error"
# dbt does not take these from the arguments of the first attempt.
UNREPEATED = ("--defer-state",)
UNREPEATED_SWITCHES = ("--warn-error",)
# The argument whose value may differ between runs, for example because it contains the run's id.
VARIABLES = "--vars"
FILE = "command.json"
DBT_FILE = "run_results.json"
KEPT_SECONDS = 7 * 86_400  # a run may be executed again "from failure" on another day

Results = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What is stored of a dbt command.

    Attributes:
        asked: What the owner asked for: arguments, without variables, and the target.
        arguments: The command line of the first attempt.
        results: Content of `run_results.json` with the last result of each node.
        held_back: Unique ids of the failed tests, and of the nodes that they block.
        is_unstarted: Whether the last attempt at it ended before dbt built anything.
    """

    asked: Sequence[str]
    arguments: Sequence[str]
    results: Results
    held_back: Sequence[str] = ()
    is_unstarted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeat:
    """A command that is repeated.

    Attributes:
        earlier: What is stored of it.
        folder: Folder with the results that dbt reads.
        nodes: Unique ids of the nodes that dbt will build.
    """

    earlier: Attempt
    folder: Path
    nodes: frozenset[str]

    def __str__(self) -> str:
        """Return the number of nodes, in words."""
        return f"{len(self.nodes)} node{'s' * (len(self.nodes) != 1)}"

    @property
    def arguments(self) -> list[str]:
        """Return the arguments of dbt."""
        first = self.earlier.arguments
        values = [(name, option(first, name)) for name in UNREPEATED]
        options = [text for name, value in values if value for text in (name, value)]
        switches = [switch for switch in UNREPEATED_SWITCHES if switch in first]
        return ["retry", "--state", str(self.folder), *options, *switches]


@dataclass(frozen=True, slots=True)
class RetryStore:
    """The commands of the attempts at one step, in the state folder, which outlives the process."""

    state_dir: Path
    run_id: str
    step_key: str

    def read(self, call: int) -> Attempt | None:
        """Return what is stored of the step's command number `call`, or None."""
        file = self._folder(call) / FILE
        try:
            if file.stat().st_mtime < time.time() - KEPT_SECONDS:
                return None
            return Attempt(**orjson.loads(file.read_bytes()))
        except (OSError, ValueError, TypeError):  # missing, incomplete, or of another release
            return None

    def prepare(self, call: int, earlier: Attempt, *, with_tests: bool) -> Repeat:
        """Write the results that `dbt retry` reads.

        Args:
            call: Number of the command in the step.
            earlier: What is stored of it.
            with_tests: Whether failed tests are repeated.

        Raises:
            OSError: The state folder cannot be written.
        """
        results = earlier.results
        nodes = repeatable(results) - (set() if with_tests else set(earlier.held_back))
        if not nodes:  # nothing but tests has failed, and yet the step is repeated
            nodes = repeatable(results)
        left = [
            result
            for result in results["results"]
            if result["unique_id"] in nodes or result["status"] not in RETRYABLE or is_hook(result)
        ]
        self._write(call, DBT_FILE, {**results, "results": left})
        return Repeat(earlier=earlier, folder=self._folder(call), nodes=frozenset(nodes))

    def save(self, call: int, attempt: Attempt) -> None:
        """Store a command.

        Raises:
            OSError: The state folder cannot be written.
        """
        self._write(call, FILE, attempt)
        for old in self._root.iterdir():
            with suppress(OSError):
                if old.is_dir() and old.stat().st_mtime < time.time() - KEPT_SECONDS:
                    shutil.rmtree(old)

    def mark_unstarted(self, call: int) -> None:
        """Note that dbt has ended before it built anything; forget the command if this happens twice.

        dbt may have had no connection. Or it may refuse what is stored, because the project or dbt has changed.

        Raises:
            OSError: The state folder cannot be written.
        """
        if attempt := self.read(call):
            if attempt.is_unstarted:
                self.forget(call)
            else:
                self.save(call, replace(attempt, is_unstarted=True))

    def forget(self, call: int) -> None:
        """Forget a command."""
        shutil.rmtree(self._folder(call), ignore_errors=True)

    def clear(self) -> None:
        """Forget all commands of the step, which has succeeded."""
        shutil.rmtree(self._step, ignore_errors=True)

    @property
    def _root(self) -> Path:
        return self.state_dir / "retries"

    @property
    def _step(self) -> Path:
        return self._root / f"{self.run_id}.{self.step_key}"

    def _folder(self, call: int) -> Path:
        return self._step / str(call)

    def _write(self, call: int, name: str, content: object) -> None:
        make_state_folder(self._root)
        folder = self._folder(call)
        for path in (self._step, folder):
            path.mkdir(mode=0o700, exist_ok=True)
        file, partial = folder / name, folder / f".{name}.{os.getpid()}"
        partial.write_bytes(orjson.dumps(content))
        partial.replace(file)


def asked_for(args: Sequence[str], *further: str | None) -> list[str]:
    """Return what identifies a command: its arguments except for the value of `--vars`, and `further` names."""
    kept, skips = [], False
    for arg in args:
        if not skips:
            kept.append(VARIABLES if arg.startswith(f"{VARIABLES}=") else arg)
        skips = arg == VARIABLES and not skips
    return [*kept, *(name or "" for name in further)]


def repeatable(results: Results) -> set[str]:
    """Return the unique ids of the nodes that `dbt retry` would build."""
    return {
        result["unique_id"] for result in results["results"] if result["status"] in RETRYABLE and not is_hook(result)
    }


def is_hook(result: Mapping[str, Any]) -> bool:
    """Return whether a result is that of an on-run-start or on-run-end hook, which `dbt retry` does not select."""
    return str(result["unique_id"]).startswith(f"{HOOK}.")


def needs_whole_command(results: Results) -> bool:
    """Return whether a hook has failed but no node, so that `dbt retry` would do nothing and succeed."""
    return not repeatable(results) and any(result["status"] in RETRYABLE for result in results["results"])


def merged(before: Results, after: Results) -> Results:
    """Return the results of a first attempt, updated by those of `dbt retry`."""
    by_id = {result["unique_id"]: result for results in (before, after) for result in results["results"]}
    # A hook that has not failed again is not in the results.
    later = {result["unique_id"] for result in after["results"]}
    left = [result for unique_id, result in by_id.items() if unique_id in later or not is_hook(result)]
    return {**before, "results": left}


def failed_tests(results: Results) -> set[str]:
    """Return the unique ids of the tests that have failed."""
    return {result["unique_id"] for result in results["results"] if result["status"] == FAILED_TEST}


def held_back(results: Results, graph: Graph) -> set[str]:
    """Return the unique ids of the failed tests, and of the nodes that were skipped because of them."""
    tests = failed_tests(results)
    skipped = {result["unique_id"] for result in results["results"] if result["status"] == "skipped"}
    return tests | (skipped & _blocked(tests, graph))


def _blocked(tests: set[str], graph: Graph) -> set[str]:
    """Return the nodes that wait for one of the tests: as in dbt, those that depend on all that it tests."""
    blocked: set[str] = set()
    for test in tests:
        tested = graph.node(test).get("depends_on", {}).get("nodes", ())
        below = [graph.below(unique_id) for unique_id in tested]
        if below:
            blocked |= set.intersection(*below)
        if test.startswith("unit_test."):  # which dbt runs before the model
            blocked |= set(tested)
    return blocked
