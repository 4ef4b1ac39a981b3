"""Test that adding a target takes one facts file, one overlay folder and one choice."""

from __future__ import annotations

import shutil
from pathlib import Path

import yaml

from tools.rendering import TARGETS, render, run, snapshot


def test_added(tmp_path: Path) -> None:
    """A made-up target, added in a copy of the template, renders and loads its warehouse."""
    template = snapshot(tmp_path / "template")
    facts = yaml.safe_load((template / "extensions/targets/postgres.yml").read_text())
    facts |= {"title": "Trino", "adapter": "trino", "requirement": "dbt-trino>=1.9,<2"}
    facts["profile"]["type"] = "trino"
    (template / "extensions/targets/trino.yml").write_text(yaml.safe_dump(facts, sort_keys=False))
    overlay = Path("src/{{ package_name }}/floe/target.py")
    source = (template / "template/{{ overlay.postgres }}" / overlay).read_text()
    (template / "template/{{ overlay.trino }}" / overlay.parent).mkdir(parents=True)
    (template / "template/{{ overlay.trino }}" / overlay).write_text(source.replace("postgres", "trino"))
    settings = (template / "copier.yml").read_text()
    (template / "copier.yml").write_text(settings.replace(f"{TARGETS[-1]}]", f"{TARGETS[-1]}, trino]"))

    project = render(template, tmp_path / "project", project_name="eighth", compute_target="trino")

    profile = yaml.safe_load((project / "dbt/profiles.yml").read_text())["eighth"]["outputs"]
    assert ("trino", "trino", "duckdb") == tuple(profile[name]["type"] for name in ("dev", "prod", "local"))
    assert '"dbt-trino>=1.9,<2"' in (project / "pyproject.toml").read_text()
    done = run(
        "python", "-c", "from eighth.floe.target import TARGET; print(TARGET.adapter)", cwd=project, PYTHONPATH="src"
    )
    assert "trino\n" == done.stdout, done.stderr


def test_no_other_file_names_a_target(tmp_path: Path) -> None:
    """Outside its facts, its overlay and the list of choices, no file of the template names a target."""
    template = snapshot(tmp_path / "template")
    for target in set(TARGETS) - {"duckdb"}:  # which every project has as its output `local`
        shutil.rmtree(template / f"template/{{{{ overlay.{target} }}}}")
        (template / f"extensions/targets/{target}.yml").unlink()
    shutil.rmtree(template / "template/{{ overlay.sample }}")  # its SQL differs by engine, in one macro file
    texts = {
        path.relative_to(template).as_posix(): path.read_text()
        for path in template.rglob("*")
        if path.is_file() and path.name != "copier.yml" and path.suffix not in {".csv"}
    }

    allowed = {"extensions/reserved_names.yml"}
    named = {
        (name, target)
        for name, text in texts.items()
        for target in set(TARGETS) - {"duckdb"}
        if name not in allowed and f'"{target}"' in text.lower()
    }
    assert set() == named
