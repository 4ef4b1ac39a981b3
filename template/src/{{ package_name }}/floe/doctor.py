"""`uv run floe doctor`: shows what is set, tries everything, and says what came of it.

Each check is a function that returns findings; all run at once, each within `CHECK_SECONDS`, so that whatever is dead
the whole ends soon. Lineage and traces are tried with one test event and one test span, sent as a run sends them.
"""

from __future__ import annotations

import re
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Protocol
from uuid import uuid4

from openlineage.client.event_v2 import Job, Run, RunEvent, RunState
from opentelemetry.sdk.trace import TracerProvider

from .endpoints import lineage_client, lineage_source, open_spans, otlp_target
from .profile import ProfileError, profiles_file, read_output, variables
from .settings import Settings
from .tracing.setup import resource_of
from .tracing.spans import Handoff

CHECK_SECONDS = 8.0
# Each would send a second event or span for what this project sends already.
DOUBLES = ("openlineage-dbt", "dagster-openlineage", "dagster-otel")


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check has found; `state` is ok, off, warn or fail."""

    check: str
    state: str
    message: str


class Check(Protocol):
    """Tries one thing."""

    __name__: str

    def __call__(self, settings: Settings, /) -> Iterator[Finding]:
        """Yield what is found."""


def examine(settings: Settings) -> list[Finding]:
    """Return the findings of all checks, in their order."""
    checks = (profile, dbt_debug, manifest, lineage, spool, traces, doubles)
    found: dict[str, list[Finding]] = {}

    def run(check: Check) -> None:
        found[check.__name__] = _findings(check, settings)

    # Daemons, so that a check which hangs does not keep the process either.
    threads = [threading.Thread(target=run, args=[check], daemon=True) for check in checks]
    deadline = time.monotonic() + CHECK_SECONDS
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    late = f"no answer in {CHECK_SECONDS:.0f} s"
    return [
        finding for check in checks for finding in found.get(check.__name__, [Finding(check.__name__, "fail", late)])
    ]


def profile(settings: Settings) -> Iterator[Finding]:
    """Say which output is built, and which of its variables are set; values only of those that are no secret."""
    try:
        output = read_output(settings)
    except ProfileError as error:
        yield Finding("profile", "fail", str(error))
        return
    yield Finding("profile", "ok", f"output {settings.dbt_target}, {output['type']}, of {profiles_file(settings)}")
    for variable in variables(output, settings):
        if variable.value is not None:
            yield Finding(variable.name, "ok", "is set" if variable.is_secret else f"is {variable.value}")
        elif variable.has_default:
            yield Finding(variable.name, "off", "is not set; its default counts")
        else:
            yield Finding(variable.name, "fail", "is not set: .env.example says what it is")


def dbt_debug(settings: Settings) -> Iterator[Finding]:
    """Say whether dbt reaches the warehouse."""
    command = ["dbt", "--no-use-colors", "debug", "--target", settings.dbt_target]
    done = subprocess.run(  # noqa: S603 - a fixed command
        [*command, "--profiles-dir", str(settings.dbt_profiles_dir)],
        cwd=settings.dbt_project_dir,
        capture_output=True,
        text=True,
        check=False,
        timeout=CHECK_SECONDS,
    )
    if done.returncode == 0:
        yield Finding("dbt debug", "ok", "dbt reaches the warehouse")
        return
    lines = [line.partition("  ")[2].strip() for line in done.stdout.splitlines()]
    told = [line for line in lines if re.search(r"rror|not|fail", line) and "checks passed" not in line]
    yield Finding("dbt debug", "fail", (told or lines or ["it says nothing"])[-1])


def manifest(settings: Settings) -> Iterator[Finding]:
    """Say how old dbt's manifest is."""
    file = settings.dbt_project_dir / "target" / "manifest.json"
    if not file.is_file():
        yield Finding("manifest", "off", f"{file} is missing: `dg` makes it; an image needs it built in")
        return
    made = file.stat().st_mtime
    sources = [path for path in settings.dbt_project_dir.rglob("*") if path.suffix in {".sql", ".yml", ".csv"}]
    newer = [path for path in sources if "target" not in path.parts and path.stat().st_mtime > made]
    at = datetime.fromtimestamp(made, UTC).isoformat(timespec="seconds")
    if newer:
        yield Finding("manifest", "warn", f"made {at}; {len(newer)} files changed since, such as {newer[0].name}")
    else:
        yield Finding("manifest", "ok", f"made {at}; nothing has changed since")


def lineage(settings: Settings) -> Iterator[Finding]:
    """Send a test event, and say where its endpoint is set."""
    client = lineage_client(settings)
    if client is None:
        yield Finding("lineage", "off", "no endpoint: set OPENLINEAGE_URL")
        return
    source = lineage_source(settings)
    now, run = datetime.now(UTC).isoformat(), Run(str(uuid4()))
    try:
        for state in (RunState.START, RunState.COMPLETE):
            event = RunEvent(eventTime=now, eventType=state, run=run, job=Job(settings.namespace, "floe.doctor"))
            client.emit(event)
    except Exception as error:  # a transport may raise anything
        yield Finding("lineage", "fail", f"{source}: {_reason(error)}")
    else:
        yield Finding("lineage", "ok", f"{source}: took a test event")


def spool(settings: Settings) -> Iterator[Finding]:
    """Say how many events wait to be sent."""
    file = settings.state_dir / "lineage.ndjson"
    if not file.is_file():
        yield Finding("spool", "ok", "no event waits")
        return
    count = len(file.read_text(encoding="utf-8", errors="replace").splitlines())
    yield Finding("spool", "warn", f"{count} events wait in {file}; the next run with a live endpoint sends them")


def traces(settings: Settings) -> Iterator[Finding]:
    """Send a test span, and say where its endpoint is set."""
    target, channel = otlp_target(settings, "traces"), open_spans(settings)
    if target is None or channel is None:
        yield Finding("traces", "off", "no endpoint: set OTEL_EXPORTER_OTLP_ENDPOINT")
        return
    provider = TracerProvider(resource=resource_of(settings), shutdown_on_exit=False)
    provider.add_span_processor(Handoff(channel.put))
    provider.get_tracer("floe").start_span("floe.doctor").end()
    counts = channel.close(time.monotonic() + CHECK_SECONDS / 2)
    kind = "gRPC" if target.is_grpc else "HTTP"
    if counts.sent:
        yield Finding("traces", "ok", f"{target.endpoint} ({kind}): took a test span")
    else:
        yield Finding("traces", "fail", f"{target.endpoint} ({kind}): {counts.last_error}")


def doubles(_: Settings) -> Iterator[Finding]:
    """Name installed packages that would send everything twice."""
    for name in DOUBLES:
        try:
            found = version(name)
        except PackageNotFoundError:
            continue
        yield Finding(name, "warn", f"{found} is installed: switched on, it sends what this project sends already")


def _findings(check: Check, settings: Settings) -> list[Finding]:
    try:
        return list(check(settings))
    except Exception as error:  # one broken check must not hide the others
        return [Finding(check.__name__, "fail", _reason(error))]


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
