"""The command `floe`: see `uv run floe --help`."""

from __future__ import annotations

import argparse
import io
import json
import logging
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from ..redact import redact
from ..settings import settings

FINDING_MARKS = {"ok": "✓", "off": "·", "warn": "!", "fail": "✗"}
PLAIN_MARKS = {state: f"{state:<4}" for state in FINDING_MARKS}  # for a terminal that cannot show the others
REPLAY_SECONDS = 600.0


def main() -> int:
    """Run the command line; return 0 on success and 1 on failure. For wrong usage, argparse exits with 2."""
    parser = argparse.ArgumentParser(prog="floe", description="Manage dbt's manifest, lineage and tracing.")
    commands = parser.add_subparsers(required=True, metavar="command")
    doctor = commands.add_parser("doctor", help="show the settings, test every connection, report the results")
    doctor.description = (
        "Exit code: 0 if no check fails (warnings do not count), 1 otherwise. Each check may take 8 seconds from its "
        "first request: about 10 seconds in all, more on a busy machine."
    )
    doctor.add_argument("--json", action="store_true", help="print JSON")
    doctor.set_defaults(run=_doctor)
    prepare = commands.add_parser("prepare", help="make dbt's manifest for DBT_TARGET, which production needs")
    prepare.set_defaults(run=_prepare)
    lineage = commands.add_parser("lineage", help="show sent events, and send waiting ones").add_subparsers(
        required=True, metavar="command"
    )
    show = lineage.add_parser("show", help="show the events of the last run, or the columns of one table")
    show.add_argument("node", nargs="?", metavar="NODE", help="a model, seed or snapshot, such as orders")
    show.set_defaults(run=_show)
    replay = lineage.add_parser("replay", help="send the unsent events of earlier runs, and end runs left open")
    replay.description = "Exit code: 0 if all events arrived, 1 otherwise."
    replay.set_defaults(run=_replay)
    alert = commands.add_parser("alert", help="send a test message through each channel of messages about failures")
    alert.description = "Exit code: 0 if each channel took the message, 1 otherwise."
    alert.set_defaults(run=_alert)
    trace = commands.add_parser("trace", help="run a command, such as dg launch --assets '*', and draw its trace")
    trace.add_argument("--svg", type=Path, help="write an SVG picture to this file instead of text to the terminal")
    trace.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND")
    trace.set_defaults(run=_trace)
    arguments = parser.parse_args()
    _redact_messages()
    _escape_output()
    run: Callable[[argparse.Namespace], int] = arguments.run
    try:
        code = run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of a pipe, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more at exit
        return 1
    return code


class _RedactingFormatter(logging.Formatter):
    """A formatter of clients' own messages, which may contain headers and URLs with credentials."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the message and the traceback without secrets."""
        return redact(super().format(record))


def _redact_messages() -> None:
    """Redact what libraries log or warn about, and the traceback of an error that ends the command."""
    handler = logging.StreamHandler()
    handler.setLevel(logging.WARNING)
    handler.setFormatter(_RedactingFormatter())
    logging.getLogger().addHandler(handler)
    logging.captureWarnings(True)
    logger = logging.getLogger(__name__)
    sys.excepthook = lambda *error: logger.critical("The command failed:", exc_info=error)


def _escape_output() -> None:
    """Replace the characters that the terminal's encoding lacks, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _can_show(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _doctor(arguments: argparse.Namespace) -> int:
    from .doctor import examine

    findings = examine(settings)
    if arguments.json:
        _say(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        width = max(len(finding.check) for finding in findings)
        marks = FINDING_MARKS if _can_show("".join(FINDING_MARKS.values())) else PLAIN_MARKS
        for finding in findings:
            _say(f"{marks[finding.state]} {finding.check:<{width}}  {finding.message}")
    return int(any(finding.state == "fail" for finding in findings))


def _trace(arguments: argparse.Namespace) -> int:
    from .waterfall import as_svg, as_text, bars, record  # includes a server, which only this command needs

    if not arguments.command:
        _say("Name the command to trace, for example: uv run floe trace dg launch --assets '*'")
        return 2
    code, spans = record(arguments.command)
    if not spans:
        _say("No spans arrived: the command ran no step with dbt, or OTEL_* variables switch traces off.")
    elif arguments.svg:
        arguments.svg.write_text(as_svg(bars(spans)), encoding="utf-8")
    else:
        _say("\n".join(as_text(bars(spans))))
    return code


def _prepare(_: argparse.Namespace) -> int:
    from ..dbt.prepare import ParseError, prepare_anywhere
    from ..dbt.profile import ProfileError, read_output

    try:
        read_output(settings)  # before the next line, which fails with a traceback if the folder is missing
        from ...project import dbt_project  # loads Dagster, which the other commands do not need

        missing = prepare_anywhere(dbt_project)
    except (ParseError, ProfileError) as error:
        _say(str(error))
        return 1
    if missing:
        _say(f"Not set, and not needed for parsing: {', '.join(missing)}. A run uses its own values.")
    _say(str(dbt_project.manifest_path))
    return 0


def _show(arguments: argparse.Namespace) -> int:
    from ..lineage.endpoint import journal_folder
    from .show import last_run, similar_nodes

    lines = list(last_run(journal_folder(settings), arguments.node))
    _say("\n".join(lines) or "No run has sent lineage yet: run `uv run floe doctor` to check whether it would.")
    if arguments.node is not None and len(lines) == 1:
        similar = " or ".join(similar_nodes(journal_folder(settings), arguments.node))
        advice = f"did you mean {similar}?" if similar else "run `uv run floe lineage show` for all names."
        _say(f"The last run has no event of {arguments.node!r}: {advice}")
        return 1
    return 0


def _replay(_: argparse.Namespace) -> int:
    from ..delivery.diagnosis import EndpointError, diagnose
    from ..lineage.endpoint import journal_folder, lineage_client, lineage_hints
    from ..lineage.outbox import replay
    from .doctor.off import count_waiting

    try:
        client = lineage_client(settings)
    except EndpointError as error:
        _say(f"Lineage cannot be sent: {redact(str(error))}")
        return 1
    if client is None:
        _say("Lineage is off: set OPENLINEAGE_URL.")
        return 1
    folder = journal_folder(settings)
    counts = replay(client.transport, folder, time.monotonic() + REPLAY_SECONDS)
    waiting = count_waiting(folder)[0]
    _say(f"{counts.replayed} sent, {counts.dropped} dropped" + (f", {waiting} waiting in {folder}" if waiting else ""))
    if counts.last_error:
        from .doctor.endpoints import lineage_source  # loads OpenTelemetry, which is otherwise not needed

        _say(redact(f"{lineage_source(client)}: {diagnose(counts.last_error, lineage_hints())}"))
    return int(bool(counts.last_error or waiting))


def _alert(_: argparse.Namespace) -> int:
    from ..alerts.alert import Alert, Kind
    from ..alerts.channels import open_channel
    from ..alerts.config import read_config
    from ..delivery.counts import one_line

    config = read_config(settings)
    problems = [*config.problems]
    if config.is_off and not problems:
        problems.append("Alerts are off: set FLOE_ALERT_WEBHOOK or FLOE_ALERT_EMAIL_TO.")
    for name in config.channels:
        alert = Alert(key=f"test {time.time()}", kind=Kind.TEST, subject="nothing has failed", at=time.time())
        channel = open_channel(name, config, settings)
        try:
            channel.send(alert)
            _say(f"{name}: sent")
        except Exception as error:  # a client may raise any error
            problems.append(f"{name}: {one_line(error)}")
        finally:
            channel.close()
    for problem in problems:
        _say(redact(problem))
    return int(bool(problems))


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
