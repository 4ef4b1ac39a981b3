"""An owner's possible edits of a project, and their state after an update."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tools.releases import conflicts

Outcome = Literal["kept", "merged", "conflict", "stays away", "lost", "came back"]
MINE = "the owner's"


@dataclass(frozen=True)
class Edit:
    """An owner's edit of one file, and what has to become of it.

    `pattern` is replaced by `becomes`, which has MINE in it; without a pattern the file is the owner's own, with
    neither the owner has deleted it.
    """

    kind: str
    path: str
    pattern: str | None
    becomes: str | None
    expected: Outcome

    def make(self, project: Path) -> None:
        """Make the edit."""
        path = project / self.path
        if self.becomes is None:
            path.unlink()
        elif self.pattern is None:
            path.write_text(self.becomes)
        else:
            text, count = re.subn(self.pattern, self.becomes, path.read_text(), count=1, flags=re.MULTILINE)
            assert count == 1, f"{path} has no {self.pattern}"
            path.write_text(text)

    def outcome(self, project: Path, arrived: str | None = None) -> Outcome:
        """Return what has become of the edit; `arrived` stands in its file if the template's change is there too."""
        path = project / self.path
        if self.becomes is None:
            return "came back" if path.exists() else "stays away"
        text = path.read_text() if path.exists() else ""
        if MINE not in text:
            return "lost"
        if self.path in conflicts(project):
            return "conflict" if "<<<<<<< before updating" in text and ">>>>>>> after updating" in text else "lost"
        return "merged" if arrived and arrived in text else "kept"


FUTURE = r"^from __future__ import annotations\n"
EDITS = (
    Edit("edited model", "dbt/models/staging/stg_orders.sql", r"\Z", f"-- {MINE}\n", "kept"),
    Edit("edited model, gone from the template", "dbt/models/staging/stg_payments.sql", r"\Z", f"-- {MINE}\n", "kept"),
    Edit("deleted model", "dbt/models/marts/customer_cohorts.sql", None, None, "stays away"),
    Edit("own model", "dbt/models/mine.sql", None, f"select 1 as id -- {MINE}\n", "kept"),
    Edit("own file where a new one comes", "dbt/models/staging/stg_new.sql", None, f"-- {MINE}\n", "kept"),
    Edit("edited dbt_project.yml", "dbt/dbt_project.yml", r"\Z", f"# {MINE}\n", "kept"),
    Edit("edited profile", "dbt/profiles.yml", r"\Z", f"# {MINE}\n", "kept"),
    Edit("edited schedule", "src/pipeline/defs/schedules.py", r"\Z", f"# {MINE}\n", "kept"),
    Edit("deleted definition", "src/pipeline/defs/resources.py", None, None, "stays away"),
    Edit("own definition", "src/pipeline/defs/mine.py", None, f'"""{MINE}."""\n', "kept"),
    Edit("edited test", "tests/test_project.py", r"\Z", f"# {MINE}\n", "kept"),
    Edit("edit in floe/, away from a fix", "src/pipeline/floe/run.py", r"\Z", f"# {MINE}\n", "merged"),
    Edit(
        "edit in floe/, where a fix is",
        "src/pipeline/floe/dbt/node_events.py",
        FUTURE,
        rf"\g<0>\n# {MINE}\n",
        "conflict",
    ),
    Edit("own file where a new one comes, in floe/", "src/pipeline/floe/brand_new.py", None, f"# {MINE}\n", "conflict"),
    Edit("own file in floe/", "src/pipeline/floe/mine.py", None, f'"""{MINE}."""\n', "kept"),
    Edit("deleted page", "docs/tracing.md", None, None, "stays away"),
    Edit(
        "own dependency", "pyproject.toml", r'^  "structlog.*\n', rf'\g<0>  "packaging>=24", # {MINE}\n', "merged"
    ),
    Edit("edited README", "README.md", r"\Z", f"\n{MINE}\n", "kept"),
)  # fmt: skip
