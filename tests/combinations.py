"""The combinations of the structural answers, and what each renders.

A structural answer is one that a template file or another question may branch on. Which there are, and which values
they take, is read from copier.yml: the choices, both values of a yes-or-no question, and of free text the default and
the placeholder. `when` and the validators decide which of them meet.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import shutil
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import copier
import jinja2
import yaml

from tools.rendering import REPOSITORY, render

Tree = Mapping[str, str]  # relative path -> SHA-256 of the file's bytes
PROJECT_NAME = "pipeline"
# Questions whose answers are not crossed with all others, because they change files of their own: each combination of
# the others gets one of them.
SPREAD = ("deployment",)


@dataclass(frozen=True)
class Combination:
    """Answers that may be given together."""

    asked: Mapping[str, Any]  # of the questions that a person meets
    context: Mapping[str, Any]  # the same, and what copier.yml works out from them

    def __str__(self) -> str:
        """Return the answers but for the project's name, as a test's id would show them."""
        return ", ".join(f"{name}={value}" for name, value in self.asked.items() if name != "project_name")


@cache
def questions() -> dict[str, dict[str, Any]]:
    """Return the questions of copier.yml, also those that are never asked."""
    told = yaml.safe_load((REPOSITORY / "copier.yml").read_text())
    return {name: question for name, question in told.items() if not name.startswith("_")}


def free_text() -> list[str]:
    """Return the names of the questions that take any text their validator lets through."""
    return [
        name
        for name, question in questions().items()
        if question["type"] == "str" and "choices" not in question and question.get("when") is not False
    ]


def combinations(template: Path) -> list[Combination]:
    """Return every combination of the structural answers that copier.yml lets through."""
    with tempfile.TemporaryDirectory() as folder:
        worker = copier.run_copy(str(template), folder, defaults=True, pretend=True, quiet=True)
        # The validators look for a dbt project: it lies where the default and the placeholder of dbt_project_dir say.
        destination = Path(folder) / PROJECT_NAME
        for dbt_project in (destination / "transform", destination.parent):
            dbt_project.mkdir(parents=True, exist_ok=True)
            (dbt_project / "dbt_project.yml").touch()
        told = {"answers_file": worker.answers_relpath.as_posix(), "data": {}, "dst_path": destination}
        found = [Combination({}, {"_copier_conf": told})]
        for name, question in questions().items():
            found = [longer for shorter in found for longer in _answered(shorter, name, question, worker.jinja_env)]
    return found


def _answered(
    told: Combination, name: str, question: dict[str, Any], environment: jinja2.Environment
) -> Iterator[Combination]:
    """Yield `told` with each answer that `question` takes after it."""

    def rendered(text: Any, **more: Any) -> Any:
        return environment.from_string(text).render(**told.context, **more) if isinstance(text, str) else text

    def read(text: Any) -> Any:
        rendering = rendered(text)
        return yaml.safe_load(rendering) if isinstance(rendering, str) and question["type"] != "str" else rendering

    is_asked = str(rendered(question.get("when", True))).lower() == "true"
    if not is_asked:
        values = [read(question["default"])]
    elif name == "project_name":  # its default is the name of the folder
        values = [PROJECT_NAME]
    elif "choices" in question:
        if question.get("multiselect"):
            msg = f"{name}: several choices at once are not combined here"
            raise NotImplementedError(msg)
        choices = rendered(question["choices"])
        choices = yaml.safe_load(choices) if isinstance(choices, str) else choices
        values = [read(value) for value in (choices.values() if isinstance(choices, dict) else choices)]
    elif question["type"] == "bool":
        values = [False, True]
    else:
        values = [read(question[key]) for key in ("default", "placeholder") if key in question]
        if name == "folder_in_repository":  # a dbt project beside needs a repository that contains both
            values = values[:1] if ".." in told.context["dbt_project_dir"] else values[1:]
    if name in SPREAD:
        values = [values[zlib.crc32(str(told).encode()) % len(values)]]
    for value in values:
        context = {**told.context, name: value}
        if not is_asked:  # copier neither validates nor stores it
            yield Combination(told.asked, context)
        elif not environment.from_string(question.get("validator", "")).render(context).strip():
            yield Combination({**told.asked, name: value}, context)


@dataclass(frozen=True)
class Rendered:
    """All combinations, each rendered twice: by two processes, in opposite order, to different folders."""

    template: Path
    store: Path  # each distinct content, named by its SHA-256
    combinations: list[Combination]
    trees: list[Tree]
    again: list[Tree]
    seconds: float

    def read(self, content: str) -> bytes:
        """Return a content by its SHA-256."""
        return (self.store / content).read_bytes()

    def contents(self) -> dict[tuple[str, str], Combination]:
        """Return each distinct pair of path and content, with the first combination that has it."""
        found: dict[tuple[str, str], Combination] = {}
        for combination, tree in zip(self.combinations, self.trees, strict=True):
            for entry in tree.items():
                found.setdefault(entry, combination)
        return found

    def distinct(self, chosen: Callable[[str, Combination], bool]) -> list[tuple[Combination, Tree]]:
        """Return each distinct part of a tree that `chosen` picks by path, with the first combination that has it."""
        found: dict[frozenset[tuple[str, str]], tuple[Combination, Tree]] = {}
        for combination, tree in zip(self.combinations, self.trees, strict=True):
            part = {path: content for path, content in tree.items() if chosen(path, combination)}
            found.setdefault(frozenset(part.items()), (combination, part))
        return list(found.values())

    def place(self, tree: Tree, folder: Path) -> Path:
        """Write a tree's files to `folder`, emptied first, and return it."""
        shutil.rmtree(folder, ignore_errors=True)
        for path, content in tree.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.store / content, folder / path)
        return folder


def covering(every: list[Combination]) -> list[Combination]:
    """Return few combinations in which each answer to each question stands at least once."""
    chosen: list[Combination] = []
    left = {answer for combination in every for answer in combination.asked.items()}
    while left:
        # The first one with the most answers that are still missing.
        best = max(every, key=lambda combination: len(left & combination.asked.items()))
        chosen.append(best)
        left -= best.asked.items()
    return chosen


def render_all(template: Path, folder: Path, *, every: bool) -> Rendered:
    """Render combinations twice, on all cores: `every` one, or those of `covering`; `folder` takes the contents."""
    found = combinations(template)
    found = found if every else covering(found)
    asked = [combination.asked for combination in found]
    slices = max(1, (os.cpu_count() or 2) // 2)
    orders = [list(range(first, len(asked), slices)) for first in range(slices)]
    (folder / "store").mkdir(parents=True)
    start = time.monotonic()
    # spawn: each process hashes strings in its own way, so that the order of a set would show.
    with ProcessPoolExecutor(2 * slices, multiprocessing.get_context("spawn")) as pool:
        some = partial(_render_some, template, folder, asked)
        forward = [pool.submit(some, order) for order in orders]
        backward = [pool.submit(some, order[::-1]) for order in orders]
        once, again = (
            {index: tree for job in jobs for index, tree in job.result().items()} for jobs in (forward, backward)
        )
    return Rendered(
        template,
        folder / "store",
        found,
        [once[index] for index in range(len(asked))],
        [again[index] for index in range(len(asked))],
        time.monotonic() - start,
    )


def _render_some(template: Path, folder: Path, asked: list[Mapping[str, Any]], order: list[int]) -> dict[int, Tree]:
    trees: dict[int, Tree] = {}
    for index in order:
        project = Path(tempfile.mkdtemp(dir=folder)) / PROJECT_NAME
        render(template, project, **asked[index])
        trees[index] = {
            path.relative_to(project).as_posix(): _keep(path.read_bytes(), folder / "store")
            for path in project.rglob("*")
            if path.is_file()
        }
        shutil.rmtree(project.parent)
    return trees


def _keep(content: bytes, store: Path) -> str:
    name = hashlib.sha256(content).hexdigest()
    if not (store / name).exists():
        (store / f"{name}.{os.getpid()}").write_bytes(content)
        (store / f"{name}.{os.getpid()}").rename(store / name)  # at once, for the other processes
    return name
