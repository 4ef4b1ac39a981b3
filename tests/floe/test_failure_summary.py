"""Tests of the summary with which a failed dbt command ends in the console form."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pipeline.floe.dbt.failure_summary import summarize
from pipeline.floe.dbt.manifest_graph import Graph
from pipeline.floe.dbt.node_events import NodeFinished, Outcome

MESSAGE = "Runtime Error in model {0} (models/{0}.sql)\n  Binder Error: no such column"


def end(unique_id: str, outcome: Outcome = Outcome.FAIL, message: str | None = None) -> NodeFinished:
    """Return the end of a node."""
    return NodeFinished(
        at=datetime(2026, 11, 28, tzinfo=UTC),
        unique_id=unique_id,
        resource_type=unique_id.partition(".")[0],
        invocation_id="0192f0b5-0a2f-7f4d-9a5e-000000000001",
        outcome=outcome,
        status=outcome.value,
        message=message,
    )


def node(name: str, *upstream: str, kind: str = "model") -> dict[str, Any]:
    """Return a node of a manifest."""
    return {
        "unique_id": f"{kind}.shop.{name}",
        "resource_type": kind,
        "name": name,
        "package_name": "shop",
        "original_file_path": f"models/{name}.sql",
        "depends_on": {"nodes": list(upstream)},
        "config": {"materialized": "table"},
    }


def graph(target: Path, *nodes: dict[str, Any]) -> Graph:
    """Return the graph of some nodes."""
    return Graph({"metadata": {}, "nodes": {each["unique_id"]: each for each in nodes}}, target)


def test_summary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first failure has its message, its files and what was skipped because of it; others have one line each."""
    monkeypatch.chdir(tmp_path)
    for file in ("dbt/models/broken.sql", "dbt/target/compiled/shop/models/broken.sql"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    nodes = graph(
        tmp_path / "dbt" / "target",
        node("broken"),
        node("between", "model.shop.broken"),
        node("after", "model.shop.between"),
        node("fails", kind="test"),
        node("other"),
        node("after_other", "model.shop.other"),
    )
    ends = [
        end("model.shop.broken", message=MESSAGE.format("broken")),
        end("model.shop.after", Outcome.SKIPPED),
        end("test.shop.fails", message="Got 2 results, configured to fail if != 0"),
        end("model.shop.other", message=MESSAGE.format("other")),
        end("model.shop.after_other", Outcome.SKIPPED),
    ]

    assert """
Failed first: model broken (dbt/models/broken.sql)
  Runtime Error in model broken (models/broken.sql)
    Binder Error: no such column
  compiled: dbt/target/compiled/shop/models/broken.sql
  skipped because of it: model after
Failed as well:
  test fails: Got 2 results, configured to fail if != 0
  model other: Binder Error: no such column

""" == summarize(ends, nodes, tmp_path / "dbt")


def test_python_models(tmp_path: Path) -> None:
    """One line of a failed Python model is its exception, not the heading of its traceback."""
    traceback = """Runtime Error in model {0} (models/{0}.py)
  Python model failed:
  Traceback (most recent call last):
    File "models/x.py", line 9, in model
      return orders.df()
  ModuleNotFoundError: No module named 'pandas'
"""
    ends = [end(f"model.shop.{name}", message=traceback.format(name)) for name in ("a", "b")]

    summary = summarize(ends, graph(tmp_path, node("a"), node("b")), tmp_path)

    assert "  model b: ModuleNotFoundError: No module named 'pandas'\n" in summary


def test_hook(tmp_path: Path) -> None:
    """After a failed hook dbt skips everything."""
    ends = [end("operation.shop.hook", message="no"), end("model.shop.a", Outcome.SKIPPED)]

    assert "skipped because of it: model a\n" in summarize(ends, graph(tmp_path, node("a")), tmp_path)


def test_hook_that_skips_nothing(tmp_path: Path) -> None:
    """A failed hook, which dbt reports last, comes first; what another failure skips is not skipped because of it."""
    hook = end("operation.shop.start", message='shop.on-run-start.0 failed, error:\n IO Error: No files found "x.csv"')
    later = replace(end("model.shop.a", message="Runtime Error in model a"), at=hook.at + timedelta(seconds=1))
    ends = [later, end("model.shop.b", Outcome.SKIPPED), hook]

    summary = summarize(ends, graph(tmp_path, node("a"), node("b", "model.shop.a")), tmp_path)

    assert "Failed first: operation operation.shop.start\n" in summary
    assert "skipped because of it" not in summary


def test_hook_fails_as_well(tmp_path: Path) -> None:
    """The line of a failed hook is its error, not the heading with its name."""
    hook = end("operation.shop.end", message='shop.on-run-end.0 failed, error:\n IO Error: No files found "x.csv"')
    ends = [end("model.shop.a", message="no"), replace(hook, at=hook.at + timedelta(seconds=1))]

    assert 'operation.shop.end: IO Error: No files found "x.csv"\n' in summarize(
        ends, graph(tmp_path, node("a")), tmp_path
    )


def test_failed_test(tmp_path: Path) -> None:
    """A failed test of a model skips what reads the model."""
    nodes = graph(
        tmp_path, node("a"), {**node("unique", "model.shop.a", kind="test"), "attached_node": "model.shop.a"},
        node("b", "model.shop.a"),
    )  # fmt: skip
    ends = [end("test.shop.unique", message="Got 1 result"), end("model.shop.b", Outcome.SKIPPED)]

    assert "skipped because of it: model b\n" in summarize(ends, nodes, tmp_path)


def test_many(tmp_path: Path) -> None:
    """Failures, skipped nodes and long messages are capped."""
    names = [f"m{number}" for number in range(30)]
    after = [f"after{number}" for number in range(30)]
    nodes = graph(tmp_path, *map(node, names), *(node(name, "model.shop.m0") for name in after))
    ends = [
        *(end(f"model.shop.{name}", message="\n".join(["x" * 300] * 50)) for name in names),
        *(end(f"model.shop.{name}", Outcome.SKIPPED) for name in after),
    ]

    text = summarize(ends, nodes, tmp_path)

    assert 38 > len(text.splitlines())
    assert "  … and 30 more lines\n" in text
    assert "model after7 and 22 more\n" in text
    assert text.endswith("…\n  and 19 more\n\n")


def test_without_failure(tmp_path: Path) -> None:
    """Without a failure there is no text."""
    assert "" == summarize([end("model.shop.a", Outcome.SKIPPED)], graph(tmp_path), tmp_path)
