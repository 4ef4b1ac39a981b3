"""Tests of what is stored of a failed dbt command, and of what the next attempt repeats of it."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from pipeline.floe.dbt.manifest_graph import Graph
from pipeline.floe.dbt.retry import (
    KEPT_SECONDS,
    Attempt,
    Repeat,
    RetryStore,
    asked_for,
    held_back,
    merged,
    needs_whole_command,
    repeatable,
)

RUN_ID = "5f9f2c1e-8b7a-4d59-9c63-0d1f6a2b7e44"


def results(**statuses: str) -> dict[str, Any]:
    """Return dbt's results: name -> status, with `__` for the dot after the type."""
    found = [{"unique_id": name.replace("__", "."), "status": status} for name, status in statuses.items()]
    return {"metadata": {"invocation_id": "i"}, "args": {"which": "build"}, "results": found}


def attempt(arguments: tuple[str, ...] = ("dbt", "build"), held: tuple[str, ...] = (), **statuses: str) -> Attempt:
    """Return a stored command."""
    return Attempt(asked=["build"], arguments=arguments, results=results(**statuses), held_back=held)


def graph(**parents: list[str]) -> Graph:
    """Return a graph: name -> what it depends on."""
    nodes = {}
    for name, above in parents.items():
        unique_id = name.replace("__", ".")
        kind = unique_id.partition(".")[0]
        nodes[unique_id] = {"unique_id": unique_id, "resource_type": kind, "depends_on": {"nodes": above}}
    return Graph({"metadata": {}, "nodes": nodes}, Path("target"))


def read(repeat: Repeat) -> list[str]:
    """Return the unique ids in the results that `dbt retry` reads."""
    return [result["unique_id"] for result in json.loads((repeat.folder / "run_results.json").read_text())["results"]]


def test_stored(tmp_path: Path) -> None:
    """The next attempt in another process reads what this one has stored; dbt reads all but what is held back."""
    RetryStore(tmp_path, RUN_ID, "dbt").save(
        1, attempt(model__a="success", model__b="error", test__t="fail", model__c="skipped", held=("test.t", "model.c"))
    )
    store = RetryStore(tmp_path, RUN_ID, "dbt")
    earlier = store.read(1)
    assert earlier

    repeat = store.prepare(1, earlier, with_tests=False)
    assert ({"model.b"}, ["model.a", "model.b"]) == (set(repeat.nodes), read(repeat))

    repeat = store.prepare(1, earlier, with_tests=True)
    assert ({"model.b", "test.t", "model.c"}, 4) == (set(repeat.nodes), len(read(repeat)))


def test_only_tests(tmp_path: Path) -> None:
    """If Dagster repeats a step of which only tests have failed, they are repeated: else it would succeed."""
    store = RetryStore(tmp_path, RUN_ID, "dbt")
    repeat = store.prepare(1, attempt(model__a="success", test__t="fail", held=("test.t",)), with_tests=False)

    assert {"test.t"} == repeat.nodes


def test_own(tmp_path: Path) -> None:
    """No command reads what belongs to another run, step or call, and a step's success clears only its own."""
    RetryStore(tmp_path, RUN_ID, "dbt").save(1, attempt(model__b="error"))
    RetryStore(tmp_path, RUN_ID, "dbt.other").save(1, attempt(model__b="error"))

    assert RetryStore(tmp_path, RUN_ID, "dbt").read(2) is None
    assert RetryStore(tmp_path, RUN_ID, "db").read(1) is None
    assert RetryStore(tmp_path, RUN_ID.replace("5", "6"), "dbt").read(1) is None
    RetryStore(tmp_path, RUN_ID, "db").clear()
    assert RetryStore(tmp_path, RUN_ID, "dbt").read(1)
    RetryStore(tmp_path, RUN_ID, "dbt").clear()
    assert RetryStore(tmp_path, RUN_ID, "dbt").read(1) is None
    assert RetryStore(tmp_path, RUN_ID, "dbt.other").read(1)


def test_old(tmp_path: Path) -> None:
    """What is older than a week is not repeated, and the next command that is stored deletes it."""
    old, new = RetryStore(tmp_path, RUN_ID, "old"), RetryStore(tmp_path, RUN_ID, "new")
    old.save(1, attempt(model__b="error"))
    (folder,) = (path for path in (tmp_path / "retries").iterdir() if path.is_dir())
    for path in (*folder.rglob("*"), folder):
        os.utime(path, (time.time(), time.time() - KEPT_SECONDS - 60))

    assert old.read(1) is None
    new.save(1, attempt(model__b="error"))
    assert not folder.exists()
    assert new.read(1)


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"asked": [', b'{"of": "another release"}'])
def test_unreadable(tmp_path: Path, content: bytes) -> None:
    """A file that is incomplete, or of another release, counts as missing."""
    store = RetryStore(tmp_path, RUN_ID, "dbt")
    store.save(1, attempt(model__b="error"))
    (file,) = (tmp_path / "retries").glob("*/1/command.json")
    file.write_bytes(content)

    assert store.read(1) is None


def test_private(tmp_path: Path) -> None:
    """Only their owner can read the results, which contain variables."""
    RetryStore(tmp_path, RUN_ID, "dbt").save(1, attempt(model__b="error"))

    assert {0o700} == {path.stat().st_mode & 0o777 for path in (tmp_path / "retries").rglob("*") if path.is_dir()}


def test_unstarted(tmp_path: Path) -> None:
    """A retry that dbt refuses does so once more; then the whole command is repeated."""
    store = RetryStore(tmp_path, RUN_ID, "dbt")
    store.save(1, attempt(model__gone="error"))

    store.mark_unstarted(1)
    assert store.read(1)
    store.mark_unstarted(1)
    assert store.read(1) is None


def test_arguments(tmp_path: Path) -> None:
    """`dbt retry` gets those arguments that it does not take from the first attempt."""
    store = RetryStore(tmp_path, RUN_ID, "dbt")
    first = ("dbt", "--warn-error", "build", "--defer", "--defer-state", "prod", "--vars", "{a: 1}")
    repeat = store.prepare(1, attempt(first, model__b="error"), with_tests=False)

    assert ["retry", "--state", str(repeat.folder), "--defer-state", "prod", "--warn-error"] == repeat.arguments


def test_asked_for() -> None:
    """A command is the same with other values of its variables; it is not with other arguments or another target."""
    same = [["build", "--vars", "{run: 1}", "-f"], ["build", "--vars", "{run: 2}", "-f"]]
    written_as_one = [["build", "--vars={run: 1}"], ["build", "--vars={run: 2}"]]

    assert asked_for(same[0], None, "dev") == asked_for(same[1], None, "dev")
    assert asked_for(written_as_one[0]) == asked_for(written_as_one[1])
    assert asked_for(same[0], None, "dev") != asked_for(same[0], None, "prod")
    assert asked_for(same[0]) != asked_for(same[0][:-1])
    assert asked_for(["--vars", "--vars", "x"]) == asked_for(["--vars", "y", "x"])


def test_merged() -> None:
    """Each node has its last result; a hook that has failed before the retry is gone."""
    before = results(model__a="success", model__b="error", model__c="skipped", operation__h="error")
    after = results(model__b="success", model__c="error")
    after["args"] = {"which": "retry"}

    both = merged(before, after)
    assert {"model.a": "success", "model.b": "success", "model.c": "error"} == {
        result["unique_id"]: result["status"] for result in both["results"]
    }
    assert {"which": "build"} == both["args"]


def test_hooks() -> None:
    """`dbt retry` does not select hooks, so if nothing else has failed, the whole command is repeated."""
    assert needs_whole_command(results(model__a="success", operation__h="error"))
    assert not needs_whole_command(results(model__a="error", operation__h="error"))
    assert not needs_whole_command(results(model__a="success", operation__h="success"))
    assert {"model.a"} == repeatable(results(model__a="error", operation__h="error"))


def test_held_back() -> None:
    """A failed test holds back what depends on all that it tests; a test that could not run is an error as others."""
    edges = graph(
        model__a=[],
        model__b=[],
        model__below=["model.a"],
        model__lower=["model.below", "model.b"],
        test__on_a=["model.a"],
        test__on_lower=["model.lower"],
        test__both=["model.a", "model.b"],
    )
    skipped = {"model__below": "skipped", "model__lower": "skipped", "test__on_lower": "skipped"}

    assert {"test.on_a", "model.below", "model.lower", "test.on_lower"} == held_back(
        results(test__on_a="fail", **skipped), edges
    )
    assert {"test.both", "model.lower", "test.on_lower"} == held_back(results(test__both="fail", **skipped), edges)
    assert set() == held_back(results(test__on_a="error", **skipped), edges)


def test_held_back_by_unit_test() -> None:
    """A failed unit test holds back its model as well, because dbt runs it first."""
    edges = graph(model__a=[], model__below=["model.a"])
    unit_test = {"unit_test.u": {"unique_id": "unit_test.u", "depends_on": {"nodes": ["model.a"]}}}
    edges = Graph({"metadata": {}, "nodes": edges._nodes, "unit_tests": unit_test}, Path("target"))

    failed = results(unit_test__u="fail", model__a="skipped", model__below="skipped")
    assert {"unit_test.u", "model.a", "model.below"} == held_back(failed, edges)
