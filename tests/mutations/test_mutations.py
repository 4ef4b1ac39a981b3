"""The tests that an owner gets guard edits of `floe/`: green as rendered, red for each mutation."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
import yaml

from tools.rendering import TARGETS, render, run

MUTATIONS = Path(__file__).with_name("mutations.yml")
SLOW = {"test_delivery.py", "test_doctor.py"}  # they wait for endpoints that do not answer
TESTS_FAILED = 1  # pytest's exit code; another says that it could not collect or run them

Say = Callable[[str, object], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutation:
    """One edit of the rendered `floe/`: `file` has `new` in place of `old`, which stands there once."""

    reason: str
    file: str
    old: str
    new: str
    target: str = "duckdb"

    def apply(self, project: Path) -> None:
        """Make the edit.

        Raises:
            LookupError: The text to change does not stand in the file exactly once.
        """
        file = project / "src" / "pipeline" / "floe" / self.file
        text = file.read_text()
        if (count := text.count(self.old)) != 1:
            msg = f"{self.file} has {self.old!r} {count} times: correct {MUTATIONS.name}"
            raise LookupError(msg)
        file.write_text(text.replace(self.old, self.new))


@cache
def mutations() -> list[Mutation]:
    """Return all mutations."""
    return [Mutation(**entry) for entry in yaml.safe_load(MUTATIONS.read_text())]


def run_owners_tests(project: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run a project's tests of `floe/` in the environment of this lane, the slow ones at the end."""
    files = sorted((project / "tests" / "floe").glob("test_*.py"), key=lambda file: (file.name in SLOW, file.name))
    fixed = ["-q", "-rf", "--no-header", "-p", "no:cacheprovider"]
    # Of its own: pytest leaves an iterator open when another process removes old folders from the shared one.
    fixed.append(f"--basetemp={project.parent / 'temporary'}")
    names = [file.relative_to(project) for file in files]
    return run(sys.executable, "-m", "pytest", *fixed, *options, *names, cwd=project, PYTHONPATH="src")


def make_project(template: Path, folder: Path, target: str) -> Path:
    """Render a project of a target."""
    return render(template, folder, project_name="pipeline", compute_target=target)


@pytest.mark.parametrize("target", TARGETS)
def test_green(target: str, template: Path, tmp_path: Path) -> None:
    """The tests pass in a project as it is rendered."""
    done = run_owners_tests(make_project(template, tmp_path / "project", target))

    assert 0 == done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("mutation", mutations(), ids=lambda mutation: mutation.reason)
def test_red(mutation: Mutation, template: Path, tmp_path: Path, record_property: Say) -> None:
    """A mutation makes a test fail, at which the others are not run, and keeps none from being collected."""
    project = make_project(template, tmp_path / "project", mutation.target)
    mutation.apply(project)
    done = run_owners_tests(project, "--exitfirst")
    failed = re.findall(r"^(?:FAILED|ERROR) tests/floe/(.+?)(?: - .*)?$", done.stdout, re.MULTILINE)

    assert TESTS_FAILED == done.returncode, f"{mutation.reason}: not noticed\n{done.stdout}{done.stderr}"
    assert failed
    record_property("summary", f"{mutation.reason}: {failed[0]}")


def test_old_text_missing(tmp_path: Path) -> None:
    """A mutation whose text is not there, or twice, is refused: it would prove nothing."""
    file = tmp_path / "src" / "pipeline" / "floe" / "run.py"
    file.parent.mkdir(parents=True)
    file.write_text("a = 1\nb = 1\n")

    for old, count in (("c", 0), ("1", 2)):
        with pytest.raises(LookupError, match=f"{count} times"):
            Mutation(reason="", file="run.py", old=old, new="").apply(tmp_path)


def test_reasons() -> None:
    """Each mutation has a reason of its own."""
    reasons = [mutation.reason for mutation in mutations()]

    assert len(reasons) == len(set(reasons)) >= 12
