"""Tests that the files under template/ are valid source code, and that duplicated texts agree."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tools.readme import README, with_tables
from tools.rendering import REPOSITORY, run
from tools.sql.table import DOCUMENT, with_shapes

TEMPLATE = REPOSITORY / "template"


def python_sources() -> list[Path]:
    """Return each Python file under template/, rendered or not."""
    return [path for path in TEMPLATE.rglob("*") if re.search(r"\.py(\.jinja)?$", path.name)]


def test_no_jinja_in_python() -> None:
    """No Python source has Jinja in it, but for the package's name in import lines of the owner's tests."""
    for path in python_sources():
        for line in path.read_text().splitlines():
            is_import = path.name.endswith(".py.jinja") and re.match(r"from \{\{ package_name \}\}[.\w]* import ", line)
            assert is_import or not re.search(r"\{[{%#]", line), f"{path}: {line}"
        assert not path.name.endswith(".jinja") or path.relative_to(TEMPLATE).parts[0] == "tests"


def test_no_trust() -> None:
    """Nothing in copier.yml makes copier ask for --trust."""
    text = (REPOSITORY / "copier.yml").read_text()

    assert [] == re.findall(r"^_(?:tasks|migrations|jinja_extensions|external_data)\b", text, re.MULTILINE)


@pytest.mark.parametrize("command", [("check",), ("format", "--check")], ids=" ".join)
def test_lint_where_it_lies(command: tuple[str, ...]) -> None:
    """Ruff passes over the sources before they are rendered."""
    done = run("ruff", *command, "--no-cache", cwd=TEMPLATE)

    assert 0 == done.returncode, done.stdout


def test_readme_tables() -> None:
    """The README's tables say what the facts files and copier.yml say; `nox -s readme` writes them."""
    assert with_tables(README.read_text()) == README.read_text()


def test_lineage_table() -> None:
    """The table in docs/lineage.md says what tests/sql/ says; `nox -s readme` writes it."""
    assert with_shapes(DOCUMENT.read_text()) == DOCUMENT.read_text()


def test_readme_layout(project: Path) -> None:
    """What the README draws is in a project, and so is each module that its documents and docstrings name."""
    [drawn] = re.findall(r"```\nmy-pipeline/\n(.*?)```", README.read_text(), re.DOTALL)
    folders, paths = {2: project}, []
    for line in drawn.splitlines():
        depth, (names, *_) = len(line) - len(line.lstrip()), re.split(r" {2,}", line.strip())
        paths += [folders[depth] / name.replace("my_pipeline", "pipeline") for name in names.split()]
        folders[depth + 2] = paths[-1]
    floe = project / "src" / "pipeline" / "floe"
    documents = [project / "README.md", *(project / "docs").glob("*.md"), *floe.rglob("*.py")]
    names = {name for file in documents for name in re.findall(r"`(?:floe/)?([a-z_/]+\.py)`", file.read_text())}

    assert len(names) > 80
    assert [] == [path for path in paths if not path.exists()]
    roots = (project, project / "src" / "pipeline", floe)
    gone = [name for name in names if not (any(floe.rglob(name)) or any((root / name).is_file() for root in roots))]
    assert [] == sorted(gone)


def test_published_facet() -> None:
    """The facet's schema at the URL that events name is the one that projects ship."""
    name = "ColumnClassificationDatasetFacet.json"
    shipped = TEMPLATE / "src" / "{{ package_name }}" / "floe" / "lineage" / name
    settings = (TEMPLATE / "src" / "{{ package_name }}" / "floe" / "settings.toml.jinja").read_text()

    assert shipped.read_bytes() == (REPOSITORY / "facets" / "1-0-0" / name).read_bytes()
    assert f"/main/facets/1-0-0/{name}" in settings
