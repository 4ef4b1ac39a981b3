"""The time of `copier copy` with the template's defaults, compared with an empty template and with public templates.

The empty template has as many files as ours. Each template is a git repository with one tagged commit, as users get it,
and is already on this machine. Tasks of the public templates are skipped, so only rendering is measured. A template
that cannot be cloned is left out.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.launch import BIN, kept
from benchmarks.measure import Cost, RefusedError, alternate, compare, run
from tools.rendering import render, snapshot

REPEATS = 5
PUBLIC: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "pawamoy/copier-uv": ("1.13.0", {"project_name": "probe", "project_description": "probe"}),
    "scientific-python/cookie": (
        "2026.06.18",
        {
            **dict.fromkeys(("project_name", "org", "full_name"), "probe"),
            "email": "probe@example.org",
            "license": "BSD",
            "backend": "hatch",
            "docs": "sphinx",
            "vcs": "true",
        },
    ),
    "serious-scaffold/ss-python": ("v0.0.67", {}),
}
"""Tags, and answers to the questions without a default."""

WITHIN = """
import json, os, sys, time
import copier
source, folder, times, answers = sys.argv[1], sys.argv[2], int(sys.argv[3]), json.loads(sys.argv[4])
def render(name):
    copier.run_copy(source, f"{folder}/{name}", data=answers, defaults=True, unsafe=True, skip_tasks=True, quiet=True)
render("first")  # imports, and fills copier's caches
before, wall = os.times(), time.perf_counter()
for i in range(times):
    render(i)
wall, after = time.perf_counter() - wall, os.times()
print(json.dumps([wall / times, sum(after[:4]) / times - sum(before[:4]) / times]))
"""
TIMES = 5


def committed(folder: Path) -> Path:
    """Make a folder a git repository with one tagged commit."""
    me = ("-c", "user.name=bench", "-c", "user.email=bench@example.org")
    for arguments in (("init", "--quiet"), ("add", "--all"), (*me, "commit", "--quiet", "-m", "all"), ("tag", "1.0.0")):
        subprocess.run(("git", *arguments), cwd=folder, check=True)
    return folder


def empty(folder: Path, files: list[Path]) -> Path:
    """Make a template of these files with nothing in them."""
    for file in (folder / "template" / each for each in files):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    (folder / "copier.yml").write_text("_subdirectory: template\n")
    return committed(folder)


def public(folder: Path) -> dict[str, Path]:
    """Clone the public templates that can be reached."""
    found = {}
    for name, (tag, _) in PUBLIC.items():
        clone = folder / name.replace("/", "-")
        command = ("git", "clone", "--quiet", "--branch", tag, f"https://github.com/{name}", str(clone))
        if subprocess.run(command, capture_output=True, check=False).returncode == 0:
            found[f"{name} {tag}"] = clone
    return found


def measure(root: Path, repeats: int) -> dict[str, Any]:
    """Render all in turn and compare them with the empty one.

    Raises:
        RefusedError: A template cannot be rendered, or the empty one has other files than ours.
    """
    probe = render(snapshot(root / "floe"), root / "probe", project_name="probe")
    files = [each.relative_to(probe) for each in probe.rglob("*") if each.is_file()]
    sources = {"empty": empty(root / "empty", files), "floe": committed(root / "floe"), **public(root)}
    answers = {name: dict(PUBLIC[name.split()[0]][1]) if "/" in name else {} for name in sources}
    answers["floe"] = {"project_name": "probe"}
    counts: dict[str, int] = {}

    def rendering(name: str) -> Callable[[], Cost]:
        def once() -> Cost:
            out = root / "out"
            data = [part for each in answers[name].items() for part in ("-d", "=".join(each))]
            trust = ("--trust", "--skip-tasks") if "/" in name else ()
            command = (BIN / "copier", "copy", "--quiet", "--defaults", *trust, *data, sources[name], out)
            cost, code = run(command, root, kept(), root / "out.log")
            if code:
                raise RefusedError(f"{name} cannot be rendered: {(root / 'out.log').read_text()[-500:]}")
            counts[name] = sum(each.is_file() for each in out.rglob("*"))
            shutil.rmtree(out)
            return cost

        return once

    found = compare(alternate({name: rendering(name) for name in sources}, repeats), "empty")
    if counts["empty"] != counts["floe"]:
        raise RefusedError(f"the empty template has {counts['empty']} files, ours has {counts['floe']}")
    within = {name: _within(root, source, answers[name]) for name, source in sources.items()}
    return {"files": counts, **found, "in_process": within}


def _within(root: Path, source: Path, answers: Mapping[str, str]) -> dict[str, float]:
    folder = root / "within"
    command = (BIN / "python", "-c", WITHIN, source, folder, TIMES, json.dumps(answers))
    done = subprocess.run(tuple(map(str, command)), env=kept(), capture_output=True, text=True, check=True)
    wall, cpu = json.loads(done.stdout.splitlines()[-1])
    shutil.rmtree(folder)
    return {"renders_per_s": round(1 / wall, 2), "cpu_s": round(cpu, 3)}


def benchmark(quick: bool) -> dict[str, Any]:
    """Return the figures."""
    with tempfile.TemporaryDirectory() as folder:
        return {"rendering": measure(Path(folder), 3 if quick else REPEATS)}
