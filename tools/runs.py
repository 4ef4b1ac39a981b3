"""Dagster runs of a rendered project in separate processes, and their spans, log lines and results."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tools.receiver import receiver

# A model that fails, two that are skipped for it, one of them by way of an ephemeral model, and a test that fails.
MISTAKES = {
    "models/marts/broken.sql": "select no_such_column from {{ ref('orders') }}\n",
    "models/marts/after_broken.sql": "select * from {{ ref('broken') }}\n",
    "models/marts/between.sql": "{{ config(materialized='ephemeral') }}\nselect * from {{ ref('broken') }}\n",
    "models/marts/after_between.sql": "select * from {{ ref('between') }}\n",
    "tests/fails.sql": "select customer_id from {{ ref('customers') }}\n",
}
# Run as `python launch.py JOB CONFIG TAGS [RUN]`: what `dg launch` does, for any job of the project. With a run, it is
# executed again from its failure.
LAUNCH = """
import json
import sys

import dagster as dg
from pipeline.definitions import defs


def job() -> dg.JobDefinition:
    return defs().resolve_job_def(sys.argv[1])


if __name__ == "__main__":
    with dg.DagsterInstance.get() as instance:
        config, tags = (json.loads(text) for text in sys.argv[2:4])
        again = dg.ReexecutionOptions.from_failure(sys.argv[4], instance) if sys.argv[4:] else None
        result = dg.execute_job(
            dg.reconstructable(job), instance, run_config=config, tags=tags, reexecution_options=again
        )
        print("RUN", result.run_id)
        print("TAGS", json.dumps(dict(instance.get_run_by_id(result.run_id).tags)))
"""
ALL = "everything"
JOBS = f"""
import dagster as dg

everything = dg.define_asset_job({ALL!r}, dg.AssetSelection.all())
"""
# Dagster's own capture of a step's streams copies them with `tail`, which a busy machine stops before it has read all.
INSTANCE = """
compute_logs: {module: dagster._core.storage.noop_compute_log_manager, class: NoOpComputeLogManager}
telemetry: {enabled: false}
"""
IN_PROCESS: dict[str, Any] = {"execution": {"config": {"in_process": {}}}}


def multiprocess(start_method: str) -> dict[str, Any]:
    """Return the run configuration for one process per step."""
    return {"execution": {"config": {"multiprocess": {"start_method": {start_method: {}}}}}}


@dataclass
class Run:
    """The output of a run.

    Attributes:
        project: Its project.
        output: What it has printed, both streams.
        log: What it has written to standard error.
        variables: Those that it was given besides.
        spans: What the receiver has.
        metrics: Likewise.
        events: The OpenLineage events that it has.
    """

    project: Path
    output: str
    log: str
    variables: Mapping[str, str]
    spans: list[Span] = field(default_factory=list)
    metrics: list[Metric] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)

    @property
    def run_id(self) -> str:
        """Return Dagster's id of the run."""
        found = re.search(r"^RUN (\S+)", self.output, re.MULTILINE)
        assert found, self.output[-3000:]
        return found[1]

    @property
    def tags(self) -> dict[str, str]:
        """Return Dagster's tags of the run."""
        found = re.search(r"^TAGS (.+)", self.output, re.MULTILINE)
        assert found, self.output[-3000:]
        loaded: dict[str, str] = json.loads(found[1])
        return loaded

    @property
    def trace_id(self) -> str:
        """Return the trace id that the run should have."""
        return self.run_id.replace("-", "")

    @cached_property
    def targets(self) -> list[Path]:
        """Return the target folders of the run's dbt commands."""
        return [*(self.project / "dbt" / "target").glob(f"*-{self.run_id[:7]}-*")]

    @property
    def results(self) -> dict[str, dict[str, Any]]:
        """Return the results in run_results.json by unique id."""
        told = (json.loads((folder / "run_results.json").read_bytes()) for folder in self.targets)
        return {result["unique_id"]: result for each in told for result in each["results"]}

    @property
    def lines(self) -> list[dict[str, Any]]:
        """Return the JSON lines of the run's log."""
        return [json.loads(line) for line in self.log.splitlines() if line.startswith("{")]

    @property
    def statements(self) -> list[Span]:
        """Return the spans of SQL statements."""
        return [span for span in self.spans if span.kind == Span.SPAN_KIND_CLIENT]

    def span(self, name: str) -> Span:
        """Return the only span with a name."""
        (found,) = (span for span in self.spans if span.name == name)
        return found


def attributes(span: Span) -> dict[str, str | int | float]:
    """Return the attributes of a span."""
    return {each.key: getattr(each.value, str(each.value.WhichOneof("value"))) for each in span.attributes}


def copy(project: Path, folder: Path, mistakes: Mapping[str, str] = {}, **modules: str) -> Path:
    """Copy a project; add `mistakes` to its dbt project, and `modules` of Python to its definitions."""
    shutil.copytree(project, folder)
    for file, text in mistakes.items():
        (folder / "dbt" / file).write_text(text)
    for name, text in {"jobs": JOBS, **modules}.items():
        (folder / "src" / "pipeline" / "defs" / f"{name}.py").write_text(text)
    (folder / "launch.py").write_text(LAUNCH)
    (folder / "home").mkdir()
    (folder / "home" / "dagster.yaml").write_text(INSTANCE)
    return folder


def launch(
    project: Path,
    job: str = ALL,
    config: Mapping[str, Any] = IN_PROCESS,
    *,
    protocol: str | None = "http/protobuf",
    python: str | Path = sys.executable,
    tags: Mapping[str, str] | None = None,
    lineage: bool = False,
    failed: Run | None = None,
    **variables: str,
) -> Run:
    """Launch a job of a project that `copy` has made; without `protocol` nothing is exported.

    Args:
        project: Its folder.
        job: Its name.
        config: The run's configuration.
        protocol: OTLP's, as OTEL_EXPORTER_OTLP_PROTOCOL has it.
        python: Of the environment to run it in.
        tags: The run's.
        lineage: Whether OpenLineage events go to the receiver even without `protocol`.
        failed: The run to execute again from its failure, as Dagster's page does.
        variables: Of its environment, besides.
    """
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    environment = kept | {
        "DAGSTER_HOME": str(project / "home"),
        "DAGSTER_CLI_TELEMETRY": "0",
        "FLOE_RAISE": "1",
        "LOG_FORMAT": "json",
        "PYTHONPATH": "src",
    }
    again = [failed.run_id] if failed else []
    tags = {**(tags or {}), **({"dagster/is_resume_retry": "true"} if failed else {})}
    with receiver() as endpoint:
        if protocol:
            environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = endpoint.grpc_url if protocol == "grpc" else endpoint.url
            environment["OTEL_EXPORTER_OTLP_PROTOCOL"] = protocol
        if protocol or lineage:
            environment["OPENLINEAGE_URL"] = endpoint.url
        done = subprocess.run(
            [str(python), "launch.py", job, json.dumps(config), json.dumps(tags), *again],
            cwd=project,
            env=environment | variables,
            capture_output=True,
            text=True,
            check=False,
        )
    received = (endpoint.spans, endpoint.metrics, endpoint.events)
    return Run(project, done.stdout + done.stderr, done.stderr, variables, *received)


def nanoseconds(time: str) -> int:
    """Return a time of run_results.json in nanoseconds, as in spans."""
    return int(datetime.fromisoformat(time).timestamp() * 1_000_000) * 1_000
