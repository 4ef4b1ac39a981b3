"""`floe doctor` on dbt's files, the folder for what waits, and installed packages: what is wrong, and what to do."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest

from .package import Finding, Settings, doctor_of_project, settings

Check = Callable[[Settings, float], Iterator[Finding]]
DBT = version("dbt-core")
OPEN, CLOSE = "{" * 2, "}" * 2  # of an expression of dbt's
PROFILE = f"""
shop:
  outputs:
    dev:
      type: trino
      host: "{OPEN} env_var('SHOP_HOST') {CLOSE}"
      user: "{OPEN} env_var('SHOP_USER', 'reader') {CLOSE}"
      password: "{OPEN} env_var('SHOP_PASSWORD') {CLOSE}"
"""


@pytest.fixture
def own(tmp_path: Path) -> Settings:
    """Return the settings of a dbt project of this test."""
    (tmp_path / "models").mkdir()
    (tmp_path / "target").mkdir()
    (tmp_path / "dbt_project.yml").write_text("profile: shop")
    (tmp_path / "profiles.yml").write_text(PROFILE)
    return replace(
        settings,
        dbt_project_dir=tmp_path,
        dbt_artifacts_dir=tmp_path / "target",
        dbt_image_dir=tmp_path / "image",
        dbt_profiles_dir=tmp_path,
        dbt_profile="",
        dbt_target="dev",
    )


def findings(check: Check, own: Settings) -> list[Finding]:
    """Return the findings of a check."""
    return list(check(own, time.monotonic() + 30))


def one(check: Check, own: Settings) -> Finding:
    """Return the one finding of a check."""
    [finding] = findings(check, own)
    return finding


def write_manifest(own: Settings, text: str) -> Path:
    """Write a manifest, and a model that is older than it; return the model's file."""
    manifest, model = own.dbt_project_dir / "target" / "manifest.json", own.dbt_project_dir / "models" / "orders.sql"
    manifest.write_text(text)
    model.write_text("select 1")
    made = time.time() - 3_600
    for file in own.dbt_project_dir.rglob("*.*"):
        os.utime(file, (made, made if file == manifest else made - 3_600))
    return model


def test_manifest(own: Settings) -> None:
    """A manifest that is newer than all files of the project is all right."""
    write_manifest(own, json.dumps({"metadata": {"dbt_version": DBT}}))
    finding = one(doctor_of_project.manifest, own)

    assert finding.state == "ok"
    assert "nothing has changed since" in finding.message


def test_manifest_outdated(own: Settings) -> None:
    """A file that has changed since is named; one that dbt has written, or that it does not read, does not count."""
    model = write_manifest(own, json.dumps({"metadata": {"dbt_version": DBT}}))
    for name in ("target/compiled.sql", "models/notes.txt", "external.csv", "README.md", "app/main.py"):
        (own.dbt_project_dir / name).parent.mkdir(exist_ok=True)
        (own.dbt_project_dir / name).touch()
    assert one(doctor_of_project.manifest, own).state == "ok"

    model.touch()
    finding = one(doctor_of_project.manifest, own)
    assert finding.state == "warn"
    assert "1 file has changed since, orders.sql: run `uv run floe prepare`" in finding.message


@pytest.mark.parametrize("name", ["dbt_project.yml", "marts/orders.sql", "seeds/countries.csv", "shared/macros/m.sql"])
def test_manifest_folders(own: Settings, name: str) -> None:
    """What dbt reads are the folders that dbt_project.yml names, default ones for the rest, and local packages."""
    for file, text in {
        "dbt_project.yml": "profile: shop\nmodel-paths: [marts]",
        "packages.yml": "packages: [{local: shared}, {package: dbt-labs/dbt_utils, version: 1.3.0}]",
        "marts/orders.sql": "select 1",
        "seeds/countries.csv": "id",
        "shared/dbt_project.yml": "name: shared",
        "shared/macros/m.sql": "",
    }.items():
        (own.dbt_project_dir / file).parent.mkdir(parents=True, exist_ok=True)
        (own.dbt_project_dir / file).write_text(text)
    write_manifest(own, json.dumps({"metadata": {"dbt_version": DBT}}))
    assert one(doctor_of_project.manifest, own).state == "ok"

    (own.dbt_project_dir / name).touch()
    finding = one(doctor_of_project.manifest, own)
    assert finding.state == "warn"
    assert f"1 file has changed since, {Path(name).name}:" in finding.message


@pytest.mark.parametrize(
    ("text", "state", "words"),
    [
        ('{"metadata": {"dbt_version": "0.1.0"}}', "warn", f"by dbt 0.1.0, but dbt {DBT} is installed"),
        ("{}", "fail", "is not a dbt manifest"),
    ],
)
def test_manifest_wrong(text: str, state: str, words: str, own: Settings) -> None:
    """A manifest of another dbt, or that is none, is named with what to do."""
    write_manifest(own, text)
    finding = one(doctor_of_project.manifest, own)

    assert finding.state == state
    assert words in finding.message
    assert "run `uv run floe prepare`" in finding.message


@pytest.mark.parametrize(("target", "state"), [("dev", "off"), ("prod", "fail")])
def test_manifest_missing(target: str, state: str, own: Settings) -> None:
    """Without a manifest only production is wrong, where nothing makes one."""
    assert one(doctor_of_project.manifest, replace(own, dbt_target=target)).state == state


def test_manifest_of_image(own: Settings) -> None:
    """In production, the manifest may be the image's, while dbt's artifacts go to another folder."""
    production = replace(own, dbt_target="prod")
    production.dbt_image_dir.mkdir()
    (production.dbt_image_dir / "manifest.json").write_text("{}")
    assert str(production.dbt_image_dir) in one(doctor_of_project.manifest, production).message
    assert one(doctor_of_project.manifest, replace(own, dbt_target="dev")).state == "off"


def test_catalog(own: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A catalog is found with its age and its sources; none is no fault, one that cannot be read is."""
    monkeypatch.delenv("DBT_TARGET_PATH", raising=False)
    file = own.dbt_project_dir / "target" / "catalog.json"
    made = (datetime.now(UTC) - timedelta(days=3, hours=1)).isoformat()
    assert one(doctor_of_project.catalog, own).state == "off"

    file.write_text(json.dumps({"metadata": {"generated_at": made}, "nodes": {}, "sources": {"source.shop.raw": {}}}))
    finding = one(doctor_of_project.catalog, own)
    assert finding.state == "ok"
    assert "3 days ago: lists the columns of 1 source" in finding.message

    file.write_text("[]")
    finding = one(doctor_of_project.catalog, own)
    assert finding.state == "warn"
    assert f"{file} is not a dbt catalog" in finding.message


def test_profile(own: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each variable of the output is named with what is wrong with it; the value of a secret one is not shown."""
    value = "n0t-f0r-the-screen"
    monkeypatch.setenv("SHOP_PASSWORD", value)
    for name in ("SHOP_HOST", "SHOP_USER"):
        monkeypatch.delenv(name, raising=False)
    output, *variables = findings(doctor_of_project.profile, own)

    assert output.state == "ok"
    assert "trino" in output.message
    assert {(finding.check, finding.state) for finding in variables} == {
        ("SHOP_HOST", "fail"),
        ("SHOP_USER", "off"),
        ("SHOP_PASSWORD", "ok"),
    }
    assert value not in str(variables)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dbt_target": "elsewhere"}, "DBT_TARGET=elsewhere is not an output of shop"),
        ({"dbt_profile": "store"}, "names the profile 'store'"),
        ({"dbt_profiles_dir": Path("/nowhere")}, "is missing: restore it"),
    ],
)
def test_profile_wrong(changes: dict[str, Any], words: str, own: Settings) -> None:
    """A profile, output or file that is not there is named, and dbt is not asked about the warehouse."""
    wrong = replace(own, **changes)
    finding, debug = one(doctor_of_project.profile, wrong), one(doctor_of_project.dbt_debug, wrong)

    assert finding.state == "fail"
    assert words in finding.message
    assert debug.state == "off"


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in for dbt is a shell script")
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # the pipe of a process that has ended
@pytest.mark.parametrize(("exit_code", "state", "words"), [(0, "ok", "reaches"), (1, "fail", "Database Error: no")])
def test_warehouse(
    exit_code: int, state: str, words: str, own: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether dbt reaches the warehouse is what dbt says."""
    script = tmp_path / "bin" / "dbt"
    script.parent.mkdir()
    script.write_text(f"#!/bin/sh\necho '05:50:00  Database Error: no such host'\nexit {exit_code}\n")
    script.chmod(0o700)
    monkeypatch.setenv("PATH", str(script.parent), prepend=os.pathsep)
    finding = one(doctor_of_project.dbt_debug, own)

    assert finding.state == state
    assert words in finding.message


def test_target_folder(own: Settings) -> None:
    """A folder to which dbt cannot write is named with the variable to set; one that it can create is all right."""
    for folder in ("target", "new/target"):
        assert (
            findings(doctor_of_project.target_folder, replace(own, dbt_artifacts_dir=own.dbt_project_dir / folder))
            == []
        )

    in_the_way = own.dbt_project_dir / "dbt_project.yml"
    finding = one(doctor_of_project.target_folder, replace(own, dbt_artifacts_dir=in_the_way / "target"))
    assert finding.state == "fail"
    assert f"{in_the_way / 'target'} cannot be written" in finding.message
    assert "set DBT_TARGET_PATH" in finding.message


def test_state_folder(own: Settings, state_folder: Path) -> None:
    """A folder in which nothing can be kept is named with the variable to set; a good one stays empty."""
    finding = one(doctor_of_project.state, own)
    assert finding.state == "ok"
    assert str(state_folder) in finding.message
    assert list(state_folder.rglob("*.ndjson")) == []

    (state_folder / "lineage").rmdir()
    (state_folder / "lineage").write_text("a file in the way")
    finding = one(doctor_of_project.state, own)
    assert finding.state == "fail"
    assert "FLOE_STATE_DIR" in finding.message


@pytest.mark.parametrize("package", ["openlineage-dbt", "dagster-openlineage", "dagster-otel"])
def test_duplicates(package: str, own: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that would send everything again is named, and none that is not installed."""
    installed: dict[str, str] = {}

    def own_version(name: str) -> str:
        if name not in installed:
            raise PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(doctor_of_project, "version", own_version)
    assert findings(doctor_of_project.duplicate_emitters, own) == []

    installed[package] = "1.2.3"
    finding = one(doctor_of_project.duplicate_emitters, own)
    assert (finding.check, finding.state) == (package, "warn")
    assert "1.2.3 is installed" in finding.message
