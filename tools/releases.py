"""A release of the working tree, an invented second one with a change of each kind, and projects made from them."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import copier
import yaml
from pathspec import GitIgnoreSpec

from tools.rendering import snapshot

FIRST, SECOND = "v1.0.0", "v2.0.0"
ANSWERS = ".copier-answers.yml"
OWNERS_PATHS = ["dbt/**", "!dbt/profiles.yml", "src/*/defs", "tests/test_project.py"]  # as the README promises
OWNERS = GitIgnoreSpec.from_lines(OWNERS_PATHS)
FLOE = "template/src/{{ package_name }}/floe"
SAMPLE = "template/{{ overlay.sample }}/dbt/models/staging"


@dataclass(frozen=True)
class Change:
    """What the second release changes: in each file of the template that `files` matches, `pattern` by `becomes`.

    Without a pattern the file is new and holds `becomes`; with neither it is gone. `shows` is the path in a project,
    and what stands there after an update; None for what may never arrive.
    """

    kind: str
    files: str
    pattern: str | None
    becomes: str | None
    shows: tuple[str, str] | None

    def make(self, template: Path) -> None:
        """Make the change in the template's repository."""
        if self.pattern is None:
            path = template / self.files
            if self.becomes is None:
                path.unlink()
            else:
                path.write_text(self.becomes)
            return
        for path in template.glob(self.files):
            assert self.becomes is not None
            text, count = re.subn(self.pattern, self.becomes, path.read_text(), count=1, flags=re.MULTILINE)
            assert count == 1, f"{path} has no {self.pattern}"
            path.write_text(text)


FUTURE = r"^from __future__ import annotations\n"
CHANGES = (
    Change("fix in floe/", f"{FLOE}/run.py", FUTURE, r"\g<0>\n# fixed\n", ("src/pipeline/floe/run.py", "# fixed")),
    Change(
        "another fix",
        f"{FLOE}/dbt/node_events.py",
        FUTURE,
        r"\g<0>\n# fixed\n",
        ("src/pipeline/floe/dbt/node_events.py", "# fixed"),
    ),
    Change(
        "fix for one target",
        "template/{{ overlay.*/src/*/floe/target.py",
        FUTURE,
        r"\g<0>\n# fixed\n",
        ("src/pipeline/floe/target.py", "# fixed"),
    ),
    Change("new file", f"{FLOE}/brand_new.py", None, '"""New."""\n', ("src/pipeline/floe/brand_new.py", '"""New."""')),
    Change("changed default", "copier.yml", '"team:data"', '"team:platform"', (ANSWERS, "owner: team:data")),
    Change(
        "new question",
        "copier.yml",
        r"\Z",
        "\nretention_days: {type: int, help: Days to keep, default: 30}\n",
        (ANSWERS, "retention_days: 30"),
    ),
    Change(
        "its name among those known",
        "copier.yml",
        r"'update_workflow'\]\)",
        "'update_workflow', 'retention_days'])",
        (ANSWERS, "retention_days: 30"),
    ),
    Change(
        "its answer in a file",
        f"{FLOE}/settings.toml.jinja",
        r"\Z",
        "\n[retention]\ndays = {{ retention_days }}\n",
        ("src/pipeline/floe/settings.toml", "days = 30"),
    ),
    Change(
        "new version range",
        "extensions/targets/*.yml",
        '^(requirement: "[^"]+)"',
        r'\g<1>.99"',
        ("pyproject.toml", '.99"'),
    ),
    Change("edit in dbt/", f"{SAMPLE}/stg_orders.sql", r"\Z", "-- fixed\n", None),
    Change("new model", f"{SAMPLE}/stg_new.sql", None, "select 1 as id\n", None),
    Change("model gone", f"{SAMPLE}/stg_payments.sql", None, None, None),
    Change("edit in defs/", "template/src/{{ package_name }}/defs/schedules.py", r"\Z", "# fixed\n", None),
    Change("edit of the owner's test", "template/tests/test_project.py.jinja", r"\Z", "# fixed\n", None),
)


def git(folder: Path, *arguments: str) -> str:
    """Run git in a folder and return what it prints."""
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "core.hooksPath=/dev/null")
    done = subprocess.run(["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def commit(folder: Path, message: str = "work") -> None:
    """Commit all that lies in a folder; make it a repository if it is none."""
    if not (folder / ".git").exists():
        git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--allow-empty", "--message", message)


def release(folder: Path, *changes: Change) -> Path:
    """Make a repository whose first release is the template as it lies, and whose second has `changes`, if any."""
    template = snapshot(folder)
    commit(template)
    git(template, "tag", FIRST)
    if changes:
        for change in changes:
            change.make(template)
        commit(template)
        git(template, "tag", SECOND)
    return template


def start(template: Path, folder: Path, version: str = FIRST, **answers: Any) -> Path:
    """Make a project from a release and commit it."""
    copier.run_copy(
        str(template), folder, data={"project_name": "pipeline"} | answers, vcs_ref=version, defaults=True, quiet=True
    )
    commit(folder, "start")
    return folder


def update(project: Path, version: str | copier.VcsRef = SECOND, **answers: Any) -> None:
    """Update a project in a clean work tree, as `copier update --defaults` does."""
    copier.run_update(project, data=answers, vcs_ref=version, defaults=True, overwrite=True, quiet=True)


def switch(project: Path, **answers: Any) -> None:
    """Change answers of a project, as `copier update --defaults --vcs-ref=:current:` does."""
    update(project, copier.VcsRef.CURRENT, **answers)


def answers_of(project: Path) -> dict[str, Any]:
    """Return the answers that a project was made from."""
    stored = yaml.safe_load((project / ANSWERS).read_text())
    return {name: value for name, value in stored.items() if not name.startswith("_")}


def tree(project: Path, *, owners: bool = True) -> dict[str, str]:
    """Return the text of each file that git sees in a project, without the owner's paths if `owners` is False."""
    names = git(project, "ls-files", "--cached", "--others", "--exclude-standard", "-z").split("\0")
    return {
        name: (project / name).read_text()
        for name in sorted(set(names) - {""})
        if (project / name).is_file() and (owners or not OWNERS.match_file(name))
    }


def fresh(template: Path, folder: Path, project: Path, version: str = SECOND) -> dict[str, str]:
    """Return what a release renders with the answers of `project`, without the owner's paths."""
    return tree(start(template, folder, version, **answers_of(project)), owners=False)


def conflicts(project: Path) -> set[str]:
    """Return the files that git calls unmerged: what an owner sees in `git status`."""
    return set(git(project, "diff", "--name-only", "--diff-filter=U").split("\n")) - {""}
