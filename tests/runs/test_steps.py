"""Tests of a run of several dbt steps, one of them retried, of loading the project, and of export that is off."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tools import runs
from tools.runs import Run, attributes

pytestmark = pytest.mark.xdist_group("tracing")

# In the place of defs/dbt.py: two steps with dbt, and one without that ends last.
STEPS = """
import json
import os
import sys
import threading
from collections.abc import Iterator
from typing import Any

import dagster as dg
from dagster_dbt import DbtCliResource, dbt_assets

from ..floe.run import FloeTranslator, load_manifest, observe
from ..project import dbt_project

common = {
    "manifest": load_manifest(dbt_project), "project": dbt_project, "dagster_dbt_translator": FloeTranslator()
}
connections = []
sys.addaudithook(lambda event, args: connections.append(args[1]) if event == "socket.connect" else None)


@dbt_assets(**common, select="raw_orders")
def first(context: dg.AssetExecutionContext, dbt: DbtCliResource) -> Iterator[Any]:
    yield from observe(dbt, ["build"], context)


@dbt_assets(**common, select="flaky", retry_policy=dg.RetryPolicy(max_retries=1))
def second(context: dg.AssetExecutionContext, dbt: DbtCliResource) -> Iterator[Any]:
    os.environ["ATTEMPT"] = str(context.retry_number)
    yield from observe(dbt, ["build"], context)


@dg.asset(deps=["raw_orders"])
def last() -> None:
    threads = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
    modules = [name for name in sys.modules if name.startswith("opentelemetry.exporter")]
    print("PROBE", json.dumps({"threads": threads, "connections": connections, "modules": modules}))


small = dg.define_asset_job("small", dg.AssetSelection.assets("raw_orders", "last"))
"""
FLAKY = """
select {{ 'order_id' if env_var('ATTEMPT', '1') == '1' else 'no_such_column' }} as x
from {{ ref('raw_orders') }}
"""
OUTER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
# What loading the code location has started and imported, with an endpoint set.
LOAD = """
import json, sys, threading
from opentelemetry import metrics, trace
from pipeline.definitions import defs
defs()
print(json.dumps({
    "threads": threading.active_count(),
    "providers": [type(each).__name__ for each in (trace.get_tracer_provider(), metrics.get_meter_provider())],
    "exporters": [name for name in sys.modules if name.startswith("opentelemetry.exporter")],
}))
"""


@pytest.fixture(scope="module")
def steps(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a project with several steps."""
    flaky = {"models/marts/flaky.sql": FLAKY}
    return runs.copy(project, tmp_path_factory.mktemp("steps") / "project", flaky, dbt=STEPS)


@pytest.fixture(scope="module")
def run(steps: Path) -> Run:
    """Return a run of all steps, the second of which fails once."""
    return runs.launch(steps, tags={"traceparent": OUTER})


@pytest.fixture(scope="module")
def off(steps: Path) -> Run:
    """Return a run without an endpoint."""
    return runs.launch(steps, "small", protocol=None)


def test_one_trace(run: Run) -> None:
    """All steps and attempts are in one trace, below one run span."""
    names = Counter(span.name for span in run.spans if "." not in span.name)
    (root,) = (span for span in run.spans if not span.parent_span_id)
    steps = [span for span in run.spans if span.name.startswith("step ")]

    assert {run.trace_id} == {span.trace_id.hex() for span in run.spans}
    steps_and_asset = {"step first": 1, "step second": 2, "step last": 1, "asset last": 1}
    assert Counter({"run everything": 1, "dbt": 3, **steps_and_asset}) == names
    assert {root.span_id} == {step.parent_span_id for step in steps}
    assert all(root.start_time_unix_nano <= step.start_time_unix_nano for step in steps)
    assert all(step.end_time_unix_nano <= root.end_time_unix_nano for step in steps)
    assert {span.parent_span_id for span in run.spans} <= {b"", *(span.span_id for span in run.spans)}


def test_attempts(run: Run) -> None:
    """The attempts of a step have different spans, and so do their nodes; the run succeeds in the end."""
    attempts = sorted(
        (attributes(span)["dagster.retry_number"], attributes(span)["dbt.status"])
        for span in run.spans
        if span.name == "model.pipeline.flaky"
    )
    assert [(0, "error"), (1, "success")] == attempts
    assert 0 == run.span("run everything").status.code


def test_outer_trace(run: Run) -> None:
    """The run links to the trace in its tag."""
    (link,) = run.span("run everything").links

    assert OUTER.split("-")[1:3] == [link.trace_id.hex(), link.span_id.hex()]


def test_off(off: Run) -> None:
    """Without an endpoint, each line still has its ids, and there is no thread, no network and no warning."""
    found = re.search(r"^PROBE (.*)$", off.output, re.MULTILINE)
    assert found, off.output
    assert {"threads": [], "connections": [], "modules": []} == json.loads(found[1])

    lines = [line for line in off.lines if line["logger"] == "dbt"]
    assert {off.trace_id} == {line["trace_id"] for line in lines}
    assert all(re.fullmatch("[0-9a-f]{16}", line["span_id"]) for line in lines)
    assert {"info"} == {line["level"] for line in off.lines}
    assert "Traceback" not in off.output


def test_refused_by_opentelemetry(steps: Path) -> None:
    """A value that OpenTelemetry refuses at import costs lineage and traces, with a warning, and never the run."""
    variable = "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT"
    run = runs.launch(steps, "small", OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT="abc")

    (warning,) = {line["event"] for line in run.lines if "Lineage and tracing are off" in line["event"]}
    assert variable in warning
    assert ([], []) == (run.events, run.spans)
    assert [line for line in run.lines if "Finished execution of run" in line["event"]], run.output[-2500:]
    assert not [line for line in run.lines if "STEP_FAILURE" in line["event"]]


def test_import(steps: Path) -> None:
    """Loading the code location starts no thread and no provider, and leaves the exporters alone."""
    done = subprocess.run(
        [sys.executable, "-c", LOAD],
        cwd=steps,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": "src", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"},
        capture_output=True,
        text=True,
        check=True,
    )

    assert {"threads": 1, "providers": ["ProxyTracerProvider", "_ProxyMeterProvider"], "exporters": []} == json.loads(
        done.stdout
    )
