"""The checks of dbt (output, variables, warehouse, manifest, catalog), and of the folders that a run writes to."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ...dbt.catalog import CatalogError, catalog_file, made_at, read_catalog
from ...dbt.profile import ProfileError, profiles_file, read_output, variables
from ...delivery.sender import THREAD_PREFIX
from ...redact.yaml_files import YamlFileError, read_yaml
from ...settings import ROOT, Settings
from .finding import CHECK_SECONDS, Finding, origin, request_leaves

# Each of these would send a second event or span for something that this project already sends.
DUPLICATE_EMITTERS = ("openlineage-dbt", "dagster-openlineage", "dagster-otel")
CONNECTS = "Connection:"  # starts dbt's last line before it connects
POLL_SECONDS = 0.05
PROBE_BYTES = 64 * 1024  # a large event; a full disk may still have room for an empty file
SPARE_SECONDS = 0.5  # the part of the deadline that is left for reporting the result
# What dbt reads of a project: these files, and the folders that dbt_project.yml names, with dbt's defaults.
PROJECT_FILES = ("dbt_project.yml", "packages.yml", "dependencies.yml", "selectors.yml")
PROJECT_FOLDERS = {
    "model-paths": ["models"],
    "seed-paths": ["seeds"],
    "snapshot-paths": ["snapshots"],
    "macro-paths": ["macros"],
    "test-paths": ["tests"],
    "analysis-paths": ["analyses"],
    "function-paths": ["functions"],
}
SOURCES = {".sql", ".py", ".yml", ".yaml", ".csv", ".md"}
# Folders inside them that do not contain sources.
OTHERS = {"target", "dbt_packages", "logs", "node_modules", "venv"}


def profile(settings: Settings, _: float) -> Iterator[Finding]:
    """Report which output is used and which of its variables are set; values are shown only if they are not secret."""
    try:
        output = read_output(settings)
    except ProfileError as error:
        yield Finding("profile", "fail", str(error))
        return
    chosen = f"output {settings.dbt_target} ({origin('DBT_TARGET')}), {output['type']}, of {profiles_file(settings)}"
    yield Finding("profile", "ok", chosen)
    for variable in variables(output, settings):
        if variable.value is not None:
            yield Finding(variable.name, "ok", "is set" if variable.is_secret else f"is {variable.value}")
        elif variable.has_default:
            yield Finding(variable.name, "off", "is not set; its default applies")
        else:
            yield Finding(variable.name, "fail", "is not set: add it to .env; .env.example explains it")


def dbt_debug(settings: Settings, deadline: float) -> Iterator[Finding]:
    """Report whether dbt reaches the warehouse. dbt takes seconds to load, so the clock starts when it connects."""
    try:
        read_output(settings)
    except ProfileError:  # dbt's own error would be about something else
        yield Finding("dbt debug", "off", "not tried, because the profile is wrong: see its line")
        return
    quiet = ["--no-use-colors", "--no-send-anonymous-usage-stats", "--no-version-check"]
    command = ["dbt", *quiet, "debug", "--connection", "--target", settings.dbt_target]
    if settings.dbt_profile:
        command += ["--profile", settings.dbt_profile]
    try:
        process = subprocess.Popen(  # noqa: S603 - a fixed command
            [*command, "--profiles-dir", str(settings.dbt_profiles_dir)],
            cwd=settings.dbt_project_dir,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    except FileNotFoundError:
        yield Finding("dbt debug", "fail", f"dbt is neither next to {sys.executable} nor on PATH: run `uv sync`")
        return
    lines: list[str] = []
    reader = threading.Thread(
        target=_read, args=[process, lines], name=f"{THREAD_PREFIX}doctor-dbt-output", daemon=True
    )
    reader.start()
    queued: float | None = None
    while reader.is_alive():
        if queued is None and any(CONNECTS in line for line in lines):
            queued = _queued_seconds(process)
        limit = deadline if queued is None else request_leaves(_queued_seconds(process) - queued) - SPARE_SECONDS
        if time.monotonic() >= limit:
            process.kill()
            yield _late(has_started=queued is not None)
            return
        reader.join(POLL_SECONDS)
    if process.wait() == 0:
        yield Finding("dbt debug", "ok", "dbt reaches the warehouse")
        return
    lines = [line.partition("  ")[2].strip() for line in lines]
    errors = [line for line in lines if re.search(r"rror|not|fail", line) and "checks passed" not in line]
    detail = "\n".join(filter(None, lines))
    yield Finding("dbt debug", "fail", (errors or lines or ["dbt printed nothing"])[-1], detail)


def _read(process: subprocess.Popen[str], lines: list[str]) -> None:
    lines.extend(line.rstrip("\n") for line in process.stdout or ())


def _queued_seconds(process: subprocess.Popen[str]) -> float:
    """Return how long a process has waited for a processor, if the system counts that (Linux)."""
    with suppress(OSError, ValueError, IndexError):
        return int(Path(f"/proc/{process.pid}/schedstat").read_text(encoding="ascii").split()[1]) / 1e9
    return 0.0


def _late(*, has_started: bool) -> Finding:
    if not has_started:
        return Finding("dbt debug", "warn", "not tried: dbt was still loading because this machine is busy")
    late = f"dbt did not connect in {CHECK_SECONDS:.0f} s: the warehouse's host hangs, or a firewall drops the packets"
    return Finding("dbt debug", "fail", f"{late}; run `dbt debug` to find out which")


def manifest(settings: Settings, _: float) -> Iterator[Finding]:
    """Report the age of dbt's manifest, and whether it matches the project's current files."""
    file = settings.dbt_manifest
    if not file.is_file():
        if settings.dbt_target == "prod":
            message = f"{file} is missing: run `DBT_TARGET=prod uv run floe prepare` when you build the image"
            yield Finding("manifest", "fail", message)
        else:
            yield Finding("manifest", "off", f"{file} is missing: `dg` creates it when it next starts")
        return
    with file.open(encoding="utf-8") as stream:
        by = re.search(r'"dbt_version": ?"([^"]+)"', stream.read(2_000))
    made = file.stat().st_mtime
    newer = [path for path in _sources(settings.dbt_project_dir) if path.stat().st_mtime > made]
    at = datetime.fromtimestamp(made, UTC).isoformat(timespec="seconds")
    again = "run `uv run floe prepare` to make it again"
    if by is None:
        yield Finding("manifest", "fail", f"{file} is not a dbt manifest: {again}")
    elif by[1] != version("dbt-core"):
        message = f"made {at} by dbt {by[1]}, but dbt {version('dbt-core')} is installed: {again}"
        yield Finding("manifest", "warn", message)
    elif newer:
        changed = f"{len(newer)} files have changed since, such as" if len(newer) > 1 else "1 file has changed since,"
        message = f"made {at}; {changed} {newer[0].name}: {again}"
        yield Finding("manifest", "warn", message)
    else:
        yield Finding("manifest", "ok", f"made {at}; nothing has changed since")


def _sources(dbt_project: Path) -> Iterator[Path]:
    """Yield the files that dbt reads of a project and of its local packages; others may lie between them."""
    packages = [
        dbt_project / package["local"]
        for name in ("packages.yml", "dependencies.yml")
        for package in _document(dbt_project / name).get("packages") or ()
        if "local" in package
    ]
    for project in (dbt_project, *packages):
        yield from (project / name for name in PROJECT_FILES if (project / name).is_file())
        config = _document(project / "dbt_project.yml")
        paths = PROJECT_FOLDERS | {key: value for key, value in config.items() if str(key).endswith("-paths")}
        for path in {path for several in paths.values() if isinstance(several, list) for path in several}:
            yield from _files(project / str(path))


def _files(root: Path) -> Iterator[Path]:
    """Yield the sources in a folder, which may contain the repository around this package, or lie in it."""
    for folder, folders, files in os.walk(root):
        here = Path(folder)
        folders[:] = [
            name
            for name in folders
            if not name.startswith(".") and name not in OTHERS and (here / name).resolve() != ROOT.resolve()
        ]
        yield from (here / name for name in files if Path(name).suffix in SOURCES)


def _document(file: Path) -> dict[str, Any]:
    """Return a YAML file's content; none if it is missing or cannot be read, which dbt itself reports."""
    try:
        document = read_yaml(file)
    except YamlFileError:
        return {}
    return document if isinstance(document, dict) else {}


def catalog(settings: Settings, _: float) -> Iterator[Finding]:
    """Report the catalog from which lineage takes the columns of sources, and its age."""
    try:
        file = catalog_file(settings.dbt_project_dir)
        content = read_catalog(file)
    except CatalogError as error:
        yield Finding("catalog", "warn", str(error))
        return
    if not file.is_file():
        known = "lineage takes the columns of sources from their documentation"
        command = f"dbt docs generate --target-path {file.parent}"
        yield Finding("catalog", "off", f"not in use: {known}. `{command}` would write the columns of all tables")
        return
    made = made_at(file, content)
    days, sources = (datetime.now(UTC) - made).days, len(content["sources"])
    age = "today" if days < 1 else "1 day ago" if days == 1 else f"{days} days ago"
    origin_and_age = f"{file}, made {made.isoformat(timespec='seconds')}, {age}"
    of_sources = "1 source" if sources == 1 else f"{sources} sources"
    yield Finding("catalog", "ok", f"{origin_and_age}: lists the columns of {of_sources}")


def target_folder(settings: Settings, _: float) -> Iterator[Finding]:
    """Report a folder for dbt's artifacts that cannot be written, such as one in a read-only image."""
    folder = settings.dbt_artifacts_dir
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not (existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)):
        message = f"{folder} cannot be written, so no run can start dbt: set DBT_TARGET_PATH to a writable folder"
        yield Finding("target folder", "fail", message)


def state(settings: Settings, _: float) -> Iterator[Finding]:
    """Report whether events that cannot be sent can be stored."""
    from ...delivery.journal import Journal

    folder = settings.state_dir / "lineage"
    where = f"{settings.state_dir} ({'FLOE_STATE_DIR' if os.environ.get('FLOE_STATE_DIR') else 'the default'})"
    try:
        journal = Journal.create(folder, "doctor")
    except OSError as error:
        problem = error.strerror
    else:
        journal.append(json.dumps("x" * PROBE_BYTES))
        problem = journal.error
        journal.remove()
    if problem:
        message = f"{where}: {problem}; events would be lost while the endpoint is down: set FLOE_STATE_DIR"
        yield Finding("state folder", "fail", f"{message} to a writable folder")
        return
    yield Finding("state folder", "ok", f"{where} is writable")


def duplicate_emitters(_: Settings, __: float) -> Iterator[Finding]:
    """Report installed packages that would send everything twice."""
    for name in DUPLICATE_EMITTERS:
        try:
            installed = version(name)
        except PackageNotFoundError:
            continue
        yield Finding(name, "warn", f"{installed} is installed: if switched on, it sends everything a second time")
