"""The command that records dbt's output while it builds each target: the fixtures of the lineage and tracing tests.

    python -m tools.record [--excerpt] [TARGET …]      (nox -s record)

The sample project is built on the target's engine with four nodes added: a model that fails, one that is skipped for
it, a test that fails and one that warns. `tests/recorded/<target>/` then holds, as of one command:

    events.jsonl        dbt's events as dagster-dbt reads them: stdout, JSON, level info
    debug_log.jsonl     the `NodeFinished` events of dbt.log, which tell more
    manifest.json       of each node, what lineage, tracing and assets read
    run_results.json
    compiled/           the SQL of models and singular tests

Paths of this machine become /project, the engine's port the one that its users have.

A project of that target gets an excerpt for its own tests, `tests/floe/recording.json`: some nodes of each kind, and
of each event what floe reads. With `--excerpt` only that is written, from what has been recorded before.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tools.engines.project import Project, project_of
from tools.rendering import REPOSITORY, TARGETS, facts, snapshot

RECORDED = REPOSITORY / "tests" / "recorded"
SAMPLE = REPOSITORY / "template" / "{{ overlay.sample }}" / "dbt"
MISTAKES = {
    "models/marts/broken.sql": "select no_such_column from {{ ref('orders') }}\n",
    "models/marts/after_broken.sql": "select * from {{ ref('broken') }}\n",
    "tests/fails.sql": "select cohort_month from {{ ref('customer_cohorts') }} where cohort_size > 0\n",
    "tests/warns.sql": (
        "{{ config(severity='warn') }}\nselect cohort_month from {{ ref('customer_cohorts') }} where cohort_size > 0\n"
    ),
}
COUNTED = {"success", "error", "skipped", "fail", "warn", "pass", "no-op"}
NODE_KEYS = (
    "unique_id", "resource_type", "name", "package_name", "path", "original_file_path", "database", "schema", "alias",
    "identifier", "relation_name", "description", "columns", "config", "depends_on", "tags", "meta", "language",
    "source_name", "model", "attached_node", "column_name", "test_metadata",
)  # fmt: skip
CONFIG_KEYS = ("enabled", "materialized", "meta", "tags", "severity", "incremental_strategy", "unique_key", "strategy")
COLUMN_KEYS = ("name", "description", "data_type", "meta", "tags", "config")
METADATA_KEYS = ("adapter_type", "dbt_schema_version", "dbt_version", "generated_at", "invocation_id", "project_name")
KINDS = ("nodes", "sources", "unit_tests", "exposures")
# What the excerpt has: a part of the sample project with nothing upstream missing.
EXCERPT = {
    "seed.shop.payments_export", "seed.shop.raw_customers", "seed.shop.raw_orders",
    "source.shop.payment_provider.payments_export",
    "model.shop.stg_customers", "model.shop.stg_orders", "model.shop.stg_payments", "model.shop.int_order_payments",
    "model.shop.orders", "model.shop.customer_cohorts", "model.shop.daily_revenue", "model.shop.broken",
    "model.shop.after_broken", "snapshot.shop.customer_history", "exposure.shop.revenue_dashboard",
    "unit_test.shop.daily_revenue.daily_revenue_computes_the_refund_window_again",
    "test.shop.not_null_orders_order_id.cf6c17daed", "test.shop.fails", "test.shop.warns",
}  # fmt: skip
EXCERPT_COLUMNS = ("name", "description", "meta", "tags")
INFO_KEYS = ("name", "ts", "invocation_id", "level", "msg")
DATA_KEYS = ("version", "node_info", "run_result", "status", "num_failures", "msg")
NODE_INFO_KEYS = (
    "unique_id", "resource_type", "materialized", "node_started_at", "node_finished_at", "node_status",
)  # fmt: skip


def record(project: Project) -> None:
    """Build `project` with the added mistakes and write its fixtures.

    Raises:
        AssertionError: Not every status that the fixtures are for came up.
    """
    for name, text in MISTAKES.items():
        (project.root / "dbt" / name).write_text(text)
    target_path = project.root / "recorded"
    # As dagster-dbt calls it: dagster_dbt/core/resource.py.
    done = project.run(
        *("dbt", "build", "--select", "fqn:*", "--project-dir", "dbt", "--profiles-dir", "dbt"),
        changed={"DBT_LOG_FORMAT": "json", "DBT_TARGET_PATH": str(target_path), "DBT_LOG_PATH": str(target_path)},
    )
    clean = Cleaner(project)
    events = [line for line in done.stdout.splitlines() if line.startswith("{")]
    finished = [line for line in (target_path / "dbt.log").read_text().splitlines() if '"NodeFinished"' in line]
    results = json.loads((target_path / "run_results.json").read_text())
    statuses = {result["status"] for result in results["results"]}
    assert statuses == COUNTED, f"{project.target}: {sorted(statuses)}\n{done.stdout[-3000:]}"

    folder = RECORDED / project.target
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "events.jsonl").write_text(clean("\n".join(events)) + "\n")
    (folder / "debug_log.jsonl").write_text(clean("\n".join(finished)) + "\n")
    (folder / "manifest.json").write_text(clean(one_line_each(slim_manifest(target_path / "manifest.json"))))
    (folder / "run_results.json").write_text(clean(one_line_each(slim_results(results))))
    for file in sorted((target_path / "compiled").rglob("*.sql")):
        if file.parent.suffix not in {".yml", ".yaml"}:  # generic tests: hundreds of lines alike
            copy = folder / file.relative_to(target_path)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(clean(file.read_text()))
    excerpt_file(project.target).write_text(excerpt(folder))


class Cleaner:
    """Takes this machine, its ports and every secret out of a text."""

    def __init__(self, project: Project) -> None:
        variables = facts(project.target)["variables"]
        self._paths = re.compile(f"{re.escape(str(project.root.parent))}/[^/\"' ]+")
        self._folder = str(project.engine.folder)
        self._port = project.engine.port
        defaults = (variable["default"] for name, variable in variables.items() if name.endswith("_PORT"))
        self._default_port = str(next(defaults, 443))
        self._secrets = [value for name, value in project.variables.items() if variables.get(name, {}).get("secret")]

    def __call__(self, text: str) -> str:
        """Return `text` as it may be published.

        Raises:
            AssertionError: A secret of the engine stands in it.
        """
        assert not [secret for secret in self._secrets if secret in text], "dbt wrote a secret"
        text = self._paths.sub("/project", text).replace(self._folder, "/data")
        if self._port:
            text = re.sub(rf"\b{self._port}\b", self._default_port, text)
        home = str(Path.home())
        return text if home == "/" else text.replace(home, "/home")


def slim_manifest(file: Path) -> dict[str, Any]:
    """Return of dbt's manifest what lineage, tracing and assets read."""
    manifest = json.loads(file.read_text())
    return {"metadata": only(manifest["metadata"], METADATA_KEYS)} | {
        kind: {unique_id: slim_node(node) for unique_id, node in manifest[kind].items()} for kind in KINDS
    }


def slim_node(node: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of a node that are read."""
    slim = only(node, NODE_KEYS)
    slim["config"] = only(node["config"], CONFIG_KEYS)
    if "depends_on" in slim:
        slim["depends_on"] = only(slim["depends_on"], ("nodes",))
    if "columns" in slim:
        slim["columns"] = {name: only(column, COLUMN_KEYS) for name, column in slim["columns"].items()}
    return slim


def slim_results(results: Mapping[str, Any]) -> dict[str, Any]:
    """Return dbt's results without the SQL, which stands in compiled/, and without the command's arguments."""
    kept = [{key: value for key, value in result.items() if key != "compiled_code"} for result in results["results"]]
    return only(results, ("metadata", "elapsed_time")) | {"results": kept}


def excerpt_file(target: str) -> Path:
    """Return the file of a target's overlay that holds the excerpt of its recording."""
    return REPOSITORY / "template" / f"{{{{ overlay.{target} }}}}" / "tests" / "floe" / "recording.json"


def excerpt(folder: Path) -> str:
    """Return the excerpt of a recording as JSON: what dbt printed, `NodeFinished` of its log, manifest, SQL, seeds.

    Raises:
        AssertionError: A node of the excerpt reads one that is not in it.
    """
    manifest = json.loads((folder / "manifest.json").read_text())
    nodes = {
        kind: {unique_id: node for unique_id, node in manifest[kind].items() if unique_id in EXCERPT} for kind in KINDS
    }
    every = {unique_id: node for kind in KINDS for unique_id, node in nodes[kind].items()}
    upstream = {name for node in every.values() for name in node.get("depends_on", {}).get("nodes", [])}
    assert every.keys() == EXCERPT, f"{folder.name} has no {EXCERPT - every.keys()}"
    assert upstream <= EXCERPT, f"{folder.name}: {upstream - EXCERPT} is read, too"
    for node in every.values():
        node["columns"] = {name: only(column, EXCERPT_COLUMNS) for name, column in node.get("columns", {}).items()}
        node.get("test_metadata", {}).get("kwargs", {}).pop("model", None)  # Jinja, which a rendered file is free of
    seeds = [node["original_file_path"] for node in every.values() if node["resource_type"] == "seed"]
    files = [folder / "compiled" / node["package_name"] / node["original_file_path"] for node in every.values()]
    return one_line_each(
        {
            "printed": excerpt_events(folder / "events.jsonl"),
            "finished": excerpt_events(folder / "debug_log.jsonl"),
            "metadata": manifest["metadata"],
            **nodes,
            "compiled": {
                file.relative_to(folder).as_posix(): file.read_text()
                for file in sorted(set(files))
                if file.suffix == ".sql" and file.is_file()
            },
            "seeds": {name: "".join((SAMPLE / name).read_text().splitlines(keepends=True)[:2]) for name in seeds},
        }
    )


def excerpt_events(file: Path) -> list[dict[str, Any]]:
    """Return the events of a file that are of no node, or of a node of the excerpt, with what is read of them."""
    events = []
    for line in file.read_text().splitlines():
        event = json.loads(line)
        data = only(event["data"], DATA_KEYS)
        if "node_info" in data:
            info = only(data["node_info"], NODE_INFO_KEYS)
            data["node_info"] = {key: value for key, value in info.items() if value != "None"}  # no status yet
        if data.get("node_info", {}).get("unique_id", "") in {"", *EXCERPT} and event["info"]["name"] != "Formatting":
            events.append({"info": only(event["info"], INFO_KEYS), "data": data})
    return events


def only(data: Mapping[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    """Return the `keys` of `data` that it has."""
    return {key: data[key] for key in keys if key in data}


def one_line_each(data: Mapping[str, Any]) -> str:
    """Return JSON with one line for each node or result, so that a difference can be read."""

    def lines() -> Iterator[str]:
        for key, value in data.items():
            if isinstance(value, dict) and key in {*KINDS, "compiled", "seeds"}:
                body = ",\n".join(f"{json.dumps(name)}: {json.dumps(node)}" for name, node in value.items())
                yield f"{json.dumps(key)}: {{\n{body}\n}}"
            elif isinstance(value, list):
                yield f"{json.dumps(key)}: [\n" + ",\n".join(map(json.dumps, value)) + "\n]"
            else:
                yield f"{json.dumps(key)}: {json.dumps(value)}"

    return "{\n" + ",\n".join(lines()) + "\n}\n"


if __name__ == "__main__":
    names = [argument for argument in sys.argv[1:] if argument != "--excerpt"] or TARGETS
    if "--excerpt" in sys.argv:
        for name in names:
            excerpt_file(name).parent.mkdir(parents=True, exist_ok=True)
            excerpt_file(name).write_text(excerpt(RECORDED / name))
        sys.exit()
    with tempfile.TemporaryDirectory(prefix="floe-record-") as place:
        template = snapshot(Path(place) / "template")
        for name in names:
            with project_of(name, template, Path(place) / name) as opened:
                record(opened)
            sys.stdout.write(f"{name}: {RECORDED / name}\n")
