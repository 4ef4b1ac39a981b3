"""Tests that later releases keep the contract of a release."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tools.contract import broken, contract, released
from tools.releases import FLOE
from tools.rendering import REPOSITORY, snapshot


def test_kept(template: Path) -> None:
    """No question, choice or path of a supported release is gone; a changed default stands in the changelog."""
    promises = released()
    if not promises:
        pytest.skip("nothing is released yet: tests/released/ is empty")
    now, changelog = contract(template), (REPOSITORY / "CHANGELOG.md").read_text()

    assert {version: [] for version in promises} == {
        version: broken(promise, now, changelog) for version, promise in promises.items()
    }


def test_broken(template: Path, tmp_path: Path) -> None:
    """Each kind of broken promise is found and named; what is only added is none."""
    other = snapshot(tmp_path / "template")
    (other / FLOE / "ids.py").rename(other / FLOE / "terminal.py")
    shutil.rmtree(other / "template" / "{{ overlay.postgres }}")
    settings = (other / "copier.yml").read_text()
    for before, after in (
        ("redshift, databricks, postgres, spark]", "redshift, databricks, spark]"),
        ("gRPC - usually port 4317: grpc", "gRPC - usually port 4317: grpcs"),
        ("'deployment', 'update_workflow'", "'deployment', 'weekly_updates'"),
        ("update_workflow:\n", "weekly_updates:\n"),
        ("'update_workflow' if update_workflow else ''", "''"),
        ('"team:data"', '"team:platform"'),
    ):
        assert before in settings
        settings = settings.replace(before, after)
    (other / "copier.yml").write_text(settings)
    readme = other / "template" / "README.md.jinja"
    readme.write_text(readme.read_text().replace("update_workflow", "weekly_updates"))
    facts = other / "extensions" / "targets" / "bigquery.yml"
    facts.write_text(facts.read_text().replace("name: oauth", "name: adc"))

    old, new = contract(template), contract(other)

    lost = broken(old, new, "`owner`: `team:platform` instead of `team:data`\n")
    assert sorted(
        [
            "question update_workflow is gone",
            "choice postgres is gone (compute_target)",
            "choice grpc is gone (otlp_protocol)",
            "choice oauth is gone (auth_method (bigquery))",
            "choice password is gone (auth_method (postgres))",
            *(
                f"path {path} is gone ({start})"
                for start in ("sample", "empty", "existing")
                for path in (".github/workflows/template-update.yml", "src/my_pipeline/floe/ids.py")
            ),
            "default of auth_method (bigquery) is adc, was oauth: CHANGELOG.md has to name both in backquotes",
        ]
    ) == sorted(lost)
    assert any("default of owner is team:platform" in line for line in broken(old, new, "owner: team:platform\n"))
    assert [] == broken(old, old, "")
