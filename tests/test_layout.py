"""Tests of the layout of the package `floe`: imports point downwards, and the tree is easy to navigate."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tools.readme import RENDERED_README, with_modules

PACKAGE = "template/src/{{ package_name }}/floe"
# From the bottom up: a module imports only from its own folder and from what stands before it.
LAYERS = (
    "settings ids redact warehouse target step logs",
    "delivery",
    "faults",
    "dbt",
    "assets",
    "run_outcome",
    "watcher",
    "lineage tracing alerts",
    "daemon",
    "step_watch observer",
    "python",
    "run",
    "manifest translator",
    "cli",
)
LEVELS = {name: level for level, names in enumerate(LAYERS) for name in names.split()}
# A layer of single files has an order of its own: here each line imports only from the lines before it.
ORDER = ("settings", "redact", "ids", "warehouse", "target", "step", "logs", "step_watch", "observer")


def upward(package: Path) -> list[str]:
    """Return the imports of a package that point upwards or sidewards, each as `importer -> imported`."""
    return sorted(
        {f"{importer} -> {imported}" for importer, imported in imports(package) if not is_down(importer, imported)}
    )


def is_down(importer: str, imported: str) -> bool:
    """Say whether a part of the package may import from another."""
    if importer in ORDER and imported in ORDER and LEVELS[importer] == LEVELS[imported]:
        return ORDER.index(imported) < ORDER.index(importer)
    return LEVELS[imported] < LEVELS[importer]


def imports(package: Path) -> set[tuple[str, str]]:
    """Return which part (folder or file at the root) imports from which other, at the top of a module or within one."""
    pairs = set()
    for file in package.rglob("*.py"):
        folder = file.relative_to(package).parts[:-1]
        part = folder[0] if folder else file.stem
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level:
                base = folder[: len(folder) - node.level + 1] if node.level - 1 <= len(folder) else None
                if base is None:  # of the project, around `floe`
                    continue
                path = (*base, *(node.module.split(".") if node.module else ()))
                pairs |= {(part, path[0])} if path else {(part, name.name) for name in node.names}
    return {(importer, imported) for importer, imported in pairs if importer != imported and importer != "__init__"}


def test_imports(project: Path) -> None:
    """No import points upwards, and lineage, tracing and alerts do not know each other."""
    assert [] == upward(project / "src" / "pipeline" / "floe")


@pytest.mark.parametrize(
    ("file", "line", "pair"),
    [
        ("dbt/hooks.py", "from ..lineage.events import lean", "dbt -> lineage"),
        ("lineage/jobs.py", "from ..tracing import spans", "lineage -> tracing"),
        ("alerts/events.py", "from ..lineage.events import lean", "alerts -> lineage"),
        ("delivery/sender.py", "def later():\n    from .. import observer", "delivery -> observer"),
        ("settings.py", "from .redact import redact", "settings -> redact"),
    ],
)
def test_upward_import(tmp_path: Path, file: str, line: str, pair: str) -> None:
    """An import that points upwards or sidewards is found, wherever it stands."""
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(line)

    assert [pair] == upward(tmp_path)


def test_root(project: Path) -> None:
    """At most 14 modules lie at the root, and each part has its place among the layers."""
    root = project / "src" / "pipeline" / "floe"
    modules = {file.stem for file in root.glob("*.py")} - {"__init__"}
    folders = {folder.name for folder in root.iterdir() if (folder / "__init__.py").is_file()}

    assert len(modules) <= 14
    assert set(LEVELS) == modules | folders


def test_former_places() -> None:
    """A `defs/dbt.py` that was written before the package had folders still finds what it imports."""
    from pipeline.floe import manifest, run, translator

    assert (run.load_manifest, run.FloeTranslator) == (manifest.load_manifest, translator.FloeTranslator)


def test_modules() -> None:
    """The rendered README's table of modules is that of the files."""
    assert with_modules(RENDERED_README.read_text()) == RENDERED_README.read_text()


def test_architecture(project: Path) -> None:
    """The picture of the architecture names every folder of the package, and no other."""
    root = project / "src" / "pipeline" / "floe"
    folders = {f"{folder.name}/" for folder in root.iterdir() if (folder / "__init__.py").is_file()}
    text = (project / "docs" / "architecture.md").read_text()

    assert folders == {line.split("`")[1] for line in text.splitlines() if line.startswith("| `")}
