"""Tests of the typed events that follow from dbt's events, in the order in which dbt 1.11 writes them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from pipeline.floe.dbt.node_events import CommandFinished, EventTracker, NodeFinished, Outcome

NOW = datetime(2026, 11, 25, 17, tzinfo=UTC)
MODEL, HOOK = "model.shop.m", "operation.shop.shop-on-run-start-0"
OTHER_HOOK = "operation.shop.shop-on-run-start-1"


def raw(name: str, second: int, unique_id: str = MODEL, *, status: str = "started", **data: Any) -> dict[str, Any]:
    """Return an event of a node, or of a batch, that has started at `second`."""
    node = {
        "unique_id": unique_id,
        "resource_type": unique_id.partition(".")[0],
        "materialized": "incremental",
        "node_started_at": f"2026-11-25T16:00:{second:02}",
        "node_finished_at": "" if status == "started" else f"2026-11-25T16:00:{second:02}.5",
        "node_status": status,
    }
    info = {"name": name, "invocation_id": "0192f0b5-0a2f-7f4d-9a5e-000000000001", "ts": "2026-11-25T16:01:00Z"}
    return {"info": info, "data": {"node_info": node, **data}}


def finished(second: int, status: str, message: str) -> dict[str, Any]:
    """Return a `NodeFinished` of the debug log."""
    result = {"status": status, "message": message, "adapter_response": {"rows_affected": second}}
    return raw("NodeFinished", second, status=status, run_result=result)


def batch(second: int, number: int, status: str) -> dict[str, Any]:
    """Return the result of a batch."""
    result = raw("LogBatchResult", second, status="started" if status == "skipped" else status)
    result["data"] |= {"description": f"batch {number} of main.m", "total_batches": 3, "status": status}
    return result


def batches(*statuses: str) -> list[dict[str, Any]]:
    """Return what dbt prints of a microbatch model with batches of these statuses."""
    made = [raw("LogStartLine", 1)]
    for number, status in enumerate(statuses, start=1):
        if status == "error":
            made.append(raw("GenericExceptionOnRun", 1 + number, exc="Exception on worker thread. Runtime Error\n  no"))
        made.append(batch(1 + number, number, status))
    return made


def lives(
    raws: Iterable[dict[str, Any]],
    log: Sequence[dict[str, Any]] = (),
    skipped: Mapping[str, tuple[str, str | None]] = {},
    message: str | None = None,
) -> dict[str, list[NodeFinished | CommandFinished]]:
    """Return each end that Lives yields, by unique id, the command's under `dbt`."""

    def details(_unique_id: str, _is_wanted: Callable[[Any], bool]) -> Sequence[dict[str, Any]]:
        return log

    tracker = EventTracker(details)
    yielded = [life for event in raws for life in tracker.feed(event)]
    yielded += [*tracker.skip(skipped, at=NOW), *tracker.end(at=NOW, message=message)]
    ends: dict[str, list[NodeFinished | CommandFinished]] = {}
    for life in yielded:
        if isinstance(life, NodeFinished | CommandFinished):
            ends.setdefault(life.unique_id if isinstance(life, NodeFinished) else "dbt", []).append(life)
    return ends


def only(ends: dict[str, list[NodeFinished | CommandFinished]], unique_id: str) -> Any:
    """Return the one end of a node."""
    (end,) = ends[unique_id]
    return end


def test_own_end() -> None:
    """Of several ends in the debug log the node's own counts, wherever it stands."""
    own = finished(1, "partial success", "PARTIAL SUCCESS (1/2)")
    log = [finished(2, "success", "OK"), own, finished(3, "error", "ERROR")]
    result = raw("LogModelResult", 1, status="partial success")

    end = only(lives([*batches("success", "error"), result], log), MODEL)

    assert (Outcome.FAIL, "partial success", 1) == (end.outcome, end.status, end.response["rows_affected"])
    assert "Runtime Error\n  no\n\nin batch 2 of main.m: 1 of 3 batches failed" == end.message


def test_other_result() -> None:
    """An end in the debug log that contradicts what dbt has printed does not count."""
    result = raw("LogModelResult", 1, status="error")

    end = only(lives([raw("LogStartLine", 1), result], [finished(1, "success", "OK")]), MODEL)

    assert (Outcome.FAIL, "error", {}) == (end.outcome, end.status, end.response)


def test_no_debug_log() -> None:
    """Without a debug log a partly failed model has failed, and the batch's message is that of its exception."""
    end = only(lives([*batches("success", "error"), raw("LogModelResult", 1, status="partial success")]), MODEL)

    assert Outcome.FAIL is end.outcome
    assert str(end.message).startswith("Runtime Error\n  no")


def test_first_batch() -> None:
    """After the first batch has failed dbt skips the others; the message says so."""
    result = raw("LogModelResult", 1, status="error")

    end = only(lives([*batches("error", "skipped", "skipped"), result], [finished(1, "error", "ERROR")]), MODEL)

    assert "Runtime Error\n  no\n\nin batch 1 of main.m: 1 of 3 batches failed, 2 skipped" == end.message


def test_debug_level() -> None:
    """With `--log-level debug` dbt prints the ends of batches too: they do not end the model."""
    printed = batches("success", "error")
    printed.insert(2, finished(2, "success", "OK"))
    result = raw("LogModelResult", 1, status="partial success")

    end = only(lives([*printed, result, finished(1, "partial success", "PARTIAL SUCCESS (1/2)")]), MODEL)

    assert Outcome.FAIL is end.outcome


def test_hook() -> None:
    """A failed hook waits for its message, which dbt gives last, and stands in the command's reason."""
    raws = [
        raw("LogHookStartLine", 1, HOOK),
        raw("LogHookEndLine", 1, HOOK, status="error"),
        raw("RunResultError", 1, HOOK, status="error", msg="shop.on-run-start.0 failed, error:\n no"),
    ]
    ends = lives(raws, message="dbt ended with exit code 1")

    assert (Outcome.FAIL, "shop.on-run-start.0 failed, error:\n no") == (
        only(ends, HOOK).outcome,
        only(ends, HOOK).message,
    )
    assert "dbt ended with exit code 1\n\nshop.on-run-start.0 failed, error:\n no" == only(ends, "dbt").message


def test_hook_without_message() -> None:
    """A hook of which dbt says nothing more has one end all the same, and fails the command by name."""
    ends = lives([raw("LogHookStartLine", 1, HOOK), raw("LogHookEndLine", 1, HOOK, status="error")])

    assert Outcome.FAIL is only(ends, HOOK).outcome
    assert (Outcome.FAIL, f"{HOOK} failed") == (only(ends, "dbt").outcome, only(ends, "dbt").message)


def test_named_once() -> None:
    """A hook that Dagster's message quotes is not named again."""
    cause = "shop.on-run-start.0 failed, error:\n no"
    raws = [raw("LogHookEndLine", 1, HOOK, status="error"), raw("RunResultError", 1, HOOK, status="error", msg=cause)]

    assert f"Errors: {cause}" == only(lives(raws, message=f"Errors: {cause}"), "dbt").message


def test_open_hook() -> None:
    """A hook during which dbt dies fails with it."""
    assert "killed" == only(lives([raw("LogHookStartLine", 1, HOOK)], message="killed"), HOOK).message


def test_skipped_for_hook() -> None:
    """With `skip_nodes_if_on_run_start_fails` a node is skipped, though dbt gives it no status, and says for what."""
    raws = [
        raw("LogHookStartLine", 1, HOOK),
        raw("LogHookEndLine", 1, HOOK, status="error"),
        raw("LogHookEndLine", 1, OTHER_HOOK, status="skipped"),
        raw("SkippingDetails", 2, status="None"),
    ]
    ends = lives(raws)

    assert (Outcome.SKIPPED, "skipped", f"dbt skipped this node: {HOOK} failed") == (
        only(ends, MODEL).outcome,
        only(ends, MODEL).status,
        only(ends, MODEL).message,
    )
    assert Outcome.SKIPPED is only(ends, OTHER_HOOK).outcome


def test_skipped_for_another() -> None:
    """A hook is not blamed for what dbt skips after it has executed nodes."""
    raws = [
        raw("LogHookEndLine", 1, HOOK, status="error"),
        raw("LogStartLine", 2, "model.shop.a"),
        raw("LogModelResult", 2, "model.shop.a", status="error"),
        raw("SkippingDetails", 3, status="skipped"),
    ]

    assert only(lives(raws), MODEL).message is None


def test_message_of_results() -> None:
    """A node that dbt skips without an event has the message of run_results.json."""
    skipped = {MODEL: ("model", "Skipping due to fail_fast")}

    assert "Skipping due to fail_fast" == only(lives([raw("Note", 1)], skipped=skipped), MODEL).message


@pytest.mark.parametrize("name", ["NodeFinished", "SkippingDetails", "LogNodeNoOpResult"])
@pytest.mark.parametrize("unique_id", ["exposure.shop.e", "metric.shop.m", "saved_query.shop.q"])
def test_not_executed(name: str, unique_id: str) -> None:
    """What dbt does not execute has no end, whichever event names it: dbt Core's, or Fusion's `NodeFinished`."""
    raws = [raw("NodeStart", 1, unique_id), raw(name, 1, unique_id, status="skipped")]

    assert ["dbt"] == [*lives(raws)]
