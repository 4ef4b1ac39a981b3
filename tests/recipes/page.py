"""The recipes in template/docs/recipes.md: their commands, and the files that they write and change, in order."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

from tools.rendering import REPOSITORY

PAGE = REPOSITORY / "template" / "docs" / "recipes.md"
PATH = re.compile(r"`([\w<>.-]+/[\w<>./-]+\.\w+)`")


@dataclass(frozen=True)
class Block:
    """A block of code: a command if its language is `sh`, otherwise a file or, with `diff`, a change of one."""

    language: str
    path: str
    text: str

    def write(self, project: Path) -> None:
        """Write the file, or change it."""
        [package] = (project / "src").iterdir()
        file = project / self.path.replace("<package>", package.name)
        if self.language != "diff":
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(self.text)
            return
        before, after = ("".join(self._lines(mark)) for mark in "-+")
        text = file.read_text()
        assert text.count(before) == 1, f"{self.path} has these lines {text.count(before)} times:\n{before}"
        file.write_text(text.replace(before, after))

    def _lines(self, mark: str) -> Iterator[str]:
        """Yield the lines of a change that are in the file before (`-`) or after it (`+`)."""
        for line in self.text.splitlines(keepends=True):
            if line[0] in {mark, " "}:
                yield line[1:]


@dataclass(frozen=True)
class Recipe:
    """A recipe: its heading and its blocks of code."""

    title: str
    blocks: tuple[Block, ...]

    @property
    def changes(self) -> list[Block]:
        """Return the blocks that write or change files."""
        return [block for block in self.blocks if block.language != "sh"]


def read_recipes(text: str) -> list[Recipe]:
    """Return the recipes of a page: its headings of level 2 with all blocks below them.

    Raises:
        ValueError: A block that is not a command names no file, neither in its first line nor in the text before it.
    """
    return [Recipe(title, tuple(_blocks(title, tokens))) for title, tokens in _sections(MarkdownIt().parse(text))]


def _sections(tokens: list[Token]) -> Iterator[tuple[str, list[Token]]]:
    starts = [number for number, token in enumerate(tokens) if token.type == "heading_open" and token.tag == "h2"]
    for start, end in zip(starts, [*starts[1:], len(tokens)], strict=True):
        yield tokens[start + 1].content, tokens[start + 2 : end]


def _blocks(title: str, tokens: list[Token]) -> Iterator[Block]:
    path = ""
    for token in tokens:
        if token.type == "inline":
            path = (PATH.findall(token.content) or [path])[-1]
        elif token.type == "fence":
            language, _, named = token.info.partition(" ")
            if language != "sh" and not (named or path):
                msg = f"{title}: no file is named for this block:\n{token.content}"
                raise ValueError(msg)
            yield Block(language, "" if language == "sh" else named or path, token.content)
