"""The command `floe`: `uv run floe --help`."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from .doctor import examine
from .settings import settings

MARKS = {"ok": "✓", "off": "·", "warn": "!", "fail": "✗"}


def main() -> int:
    """Run the command line; return 1 if something fails, else 0."""
    parser = argparse.ArgumentParser(prog="floe", description="Look after dbt's manifest, lineage and tracing.")
    commands = parser.add_subparsers(dest="command", required=True)
    doctor = commands.add_parser("doctor", help="show what is set, try everything, say what came of it")
    doctor.add_argument("--json", action="store_true", help="print JSON, for machines")
    commands.add_parser("prepare", help="make dbt's manifest for DBT_TARGET, as an image for production needs it")
    trace = commands.add_parser("trace", help="run a command, such as dg launch --assets '*', and draw its trace")
    trace.add_argument("--svg", type=Path, help="write a picture to this file, instead of text to the terminal")
    trace.add_argument("run", nargs=argparse.REMAINDER, metavar="COMMAND")
    told = parser.parse_args()
    match told.command:
        case "prepare":
            return _prepare()
        case "trace":
            return _trace(told.run, told.svg) if told.run else parser.error("floe trace COMMAND: which command?")
        case _:
            return _doctor(as_json=told.json)


def _doctor(*, as_json: bool) -> int:
    findings = examine(settings)
    if as_json:
        sys.stdout.write(json.dumps([asdict(finding) for finding in findings], indent=2) + "\n")
    else:
        width = max(len(finding.check) for finding in findings)
        for finding in findings:
            sys.stdout.write(f"{MARKS[finding.state]} {finding.check:<{width}}  {finding.message}\n")
    return int(any(finding.state == "fail" for finding in findings))


def _trace(command: list[str], svg: Path | None) -> int:
    from .tracing.waterfall import as_svg, as_text, bars, record  # a server, which nothing else needs

    code, spans = record(command)
    if not spans:
        sys.stdout.write("no span has come: the command ran no step with dbt, or OTEL_* switch traces off\n")
    elif svg:
        svg.write_text(as_svg(bars(spans)), encoding="utf-8")
    else:
        sys.stdout.write("\n".join(as_text(bars(spans))) + "\n")
    return code


def _prepare() -> int:
    from ..project import dbt_project  # loads Dagster, which doctor does not need

    dbt_project.preparer.prepare(dbt_project)
    sys.stdout.write(f"{dbt_project.manifest_path}\n")
    return 0
