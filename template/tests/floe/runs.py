"""A Dagster run over recorded dbt events: observer and senders are real, dbt and the warehouse are not there.

`recording.json` is an excerpt of what dbt has printed and written while it built the template's sample project on this
project's target, with a model and a test that fail. `names.py` has the connection to that warehouse.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from . import names
from .package import Observer, sender, settings

RECORDING = json.loads(Path(__file__).with_name("recording.json").read_text(encoding="utf-8"))
INVOCATION_ID: str = RECORDING["metadata"]["invocation_id"]
RUN_ID = "5f8b6a52-6f3a-4c35-9a2e-1f2d3c4b5a69"
FAILURE = RuntimeError("dbt ended with exit code 1")


@dataclass(frozen=True, slots=True)
class Sent:
    """What the endpoint has taken of the recorded run, and the tags of the run in Dagster."""

    events: list[dict[str, Any]]
    spans: list[Span]
    tags: dict[str, str]

    def event(self, job: str, *states: str) -> dict[str, Any]:
        """Return the one event of a job with one of `states`, by default its end."""
        wanted = states or ("COMPLETE", "FAIL", "ABORT")
        [event] = [event for event in self.events if event["job"]["name"] == job and event["eventType"] in wanted]
        return event

    def output(self, job: str) -> dict[str, Any]:
        """Return the one dataset that a job has written."""
        [dataset] = self.event(job)["outputs"]
        found: dict[str, Any] = dataset
        return found

    def span(self, name: str) -> Span:
        """Return the one span of a name."""
        [span] = [span for span in self.spans if span.name == name]
        return span


def run_recorded(
    folder: Path,
    *,
    lineage_url: str = "",
    otlp_url: str = "",
    run_id: str = RUN_ID,
    added_text: str = "",
    patience: float = 60.0,
) -> dict[str, str]:
    """Observe the recorded dbt command; return the tags that the Dagster run gets.

    Args:
        folder: A folder for what dbt writes.
        lineage_url: Where lineage goes; blank sends none.
        otlp_url: Where spans and metrics go; blank sends none.
        run_id: Dagster's id of the run.
        added_text: What dbt's message for the failed model, and a comment in each model's SQL, say in addition.
        patience: Seconds for which the run may go on sending beyond its budget: a busy machine may need them.
    """
    target_path = folder / "target"
    printed, finished = (json.dumps(RECORDING[part]) for part in ("printed", "finished"))
    if added_text:
        added = json.dumps(f"in model broken {added_text}")[1:-1]
        printed, finished = (text.replace("in model broken", added) for text in (printed, finished))
    write_target(target_path, json.loads(finished), added_text)
    tags: dict[str, str] = {}
    own = replace(settings, openlineage_url=lineage_url, otlp_endpoint=otlp_url, otlp_protocol="http/protobuf")
    observer = Observer(made_up_context(run_id, tags), own)
    observer.attach(made_up_invocation(target_path))
    for event in json.loads(printed):
        observer.handle(event)
    with more_time(patience):
        observer.finish(FAILURE)
    return tags


@contextmanager
def more_time(seconds: float) -> Iterator[None]:
    """Let channels send for `seconds` more than they are given."""
    close = sender.Delivery.close
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(sender.Delivery, "close", lambda self, deadline: close(self, deadline + seconds))
        yield


def write_target(folder: Path, finished: list[dict[str, Any]], comment: str) -> None:
    """Write what dbt leaves in its target folder, and the files of its project that are read."""
    manifest = {kind: RECORDING[kind] for kind in ("metadata", "nodes", "sources", "unit_tests", "exposures")}
    manifest["nodes"] = {name: {**node, "root_path": str(folder.parent)} for name, node in manifest["nodes"].items()}
    files = {"manifest.json": json.dumps(manifest), "dbt.log": "".join(f"{json.dumps(event)}\n" for event in finished)}
    written = {folder.parent / "dbt_project.yml": "name: shop\n"}
    written |= {folder / name: text for name, text in files.items()}
    written |= {folder / name: f"{sql}\n-- {comment}" for name, sql in RECORDING["compiled"].items()}
    written |= {folder.parent / name: text for name, text in RECORDING["seeds"].items()}
    for file, text in written.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")


def made_up_context(run_id: str, tags: dict[str, str]) -> Any:
    """Return as much of Dagster's context as is read; `tags` takes those of the run."""
    return SimpleNamespace(
        run=SimpleNamespace(execution_plan_snapshot_id="plan", tags={}),
        run_id=run_id,
        job_name="daily",
        retry_number=0,
        has_partition_key=False,
        has_partition_key_range=False,
        instance=SimpleNamespace(
            add_run_tags=lambda _, added: tags.update(added),
            get_run_record_by_id=lambda _: None,
            get_execution_plan_snapshot=lambda _: SimpleNamespace(step_keys_to_execute=["dbt"]),
        ),
        log=logging.getLogger("floe_tests"),
        get_step_execution_context=lambda: SimpleNamespace(step=SimpleNamespace(key="dbt"), op_retry_policy=None),
    )


def made_up_invocation(target_path: Path) -> Any:
    """Return as much of dagster-dbt's handle of a dbt command as is read."""
    config = SimpleNamespace(
        credentials=SimpleNamespace(**names.CONNECTION), project_name="shop", profile_name="shop", version=None
    )
    return SimpleNamespace(
        target_path=target_path,
        project_dir=target_path.parent,
        manifest={"metadata": RECORDING["metadata"]},
        adapter=SimpleNamespace(config=config, convert_type=lambda _table, _index: "text"),
        process=SimpleNamespace(args=["dbt", "build"]),
        dagster_dbt_translator=SimpleNamespace(
            get_asset_key=lambda node: dg.AssetKey(node["name"]), get_owners=lambda _: None
        ),
    )
