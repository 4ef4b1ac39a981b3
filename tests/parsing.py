"""Parsers of rendered files, by file type."""

from __future__ import annotations

import ast
import csv
import io
import itertools
import json
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any
from xml.etree import ElementTree as ET

import yaml
from dotenv.parser import parse_stream
from markdown_it import MarkdownIt


def _csv(text: str) -> list[list[str]]:
    rows = list(csv.reader(io.StringIO(text), strict=True))
    if uneven := {len(row) for row in rows} - {len(rows[0])}:
        msg = f"rows of {len(rows[0])} columns and of {uneven}"
        raise ValueError(msg)
    return rows


def _dotenv(text: str) -> dict[str, str | None]:
    bindings = list(parse_stream(io.StringIO(text)))
    if wrong := [binding.original.string for binding in bindings if binding.error]:
        msg = f"no setting: {wrong}"
        raise ValueError(msg)
    return {binding.key: binding.value for binding in bindings if binding.key}


def _yaml(text: str) -> Any:
    """Return the document of a text, or a list if there are several, as kubectl takes them."""
    documents = list(yaml.safe_load_all(text))
    return documents[0] if len(documents) == 1 else documents


# dbt parses .sql, where it belongs to a project, and hadolint a Dockerfile; .gitignore and .dockerignore are any lines.
PARSERS: dict[str, Callable[[str], Any]] = {
    ".csv": _csv,
    ".dockerignore": str.splitlines,
    ".example": _dotenv,
    ".gitignore": str.splitlines,
    ".json": json.loads,
    ".md": MarkdownIt().enable("table").parse,
    ".py": ast.parse,
    ".sql": str,
    ".svg": ET.fromstring,
    ".toml": tomllib.loads,
    ".yaml": _yaml,
    ".yml": _yaml,
    "Dockerfile": str.splitlines,
}


def parse(path: str, content: bytes) -> Any:
    """Return what a file says; `path` tells its kind.

    Raises:
        ValueError: It is not of that kind, or its kind is unknown.
    """
    name = PurePosixPath(path)
    kind = name.suffix or name.name
    if kind not in PARSERS:
        msg = f"nothing here reads {kind}"
        raise ValueError(msg)
    try:
        return PARSERS[kind](content.decode())
    except (SyntaxError, yaml.YAMLError, csv.Error) as error:
        raise ValueError(str(error)) from error


def scalars(data: Any) -> Iterator[Any]:
    """Yield each key and value of nested dicts and lists."""
    if isinstance(data, dict):
        yield from data
        data = list(data.values())
    if isinstance(data, list):
        for value in data:
            yield from scalars(value)
    elif not isinstance(data, dict):
        yield data


def links(text: str) -> list[str]:
    """Return the targets of a Markdown text's links and images."""
    return [
        str(token.attrs.get("href") or token.attrs.get("src"))
        for block in PARSERS[".md"](text)
        for token in block.children or []
        if token.type in {"link_open", "image"}
    ]


def anchors(text: str) -> set[str]:
    """Return the names under which GitHub links to the headings of a Markdown text."""
    blocks = PARSERS[".md"](text)
    headings = [
        "".join(child.content for child in heading.children or [])
        for opening, heading in itertools.pairwise(blocks)
        if opening.type == "heading_open"
    ]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def fault(path: str, text: str) -> str:
    """Return why a rendered file is none of its kind or does not end with one newline, or nothing."""
    try:
        parse(path, text.encode())
    except ValueError as error:
        return f"does not parse: {error}"
    is_ended = text.endswith("\n") and not text.endswith("\n\n")
    return "" if is_ended or not text else "does not end with one newline"


def leftover(path: str, text: str, context: Mapping[str, Any]) -> str:
    """Return the first Jinja of the template's that is left; dbt's own, shown in docs too, and the workflows' may stay.

    `context` holds all answers, under the names that the template's Jinja knows.
    """
    left = re.search(r"[{}]{2}|\{%", path)
    if PurePosixPath(path).parts[0] in {context["dbt_project_dir"], context["profiles_dir"], ".github", "docs"}:
        left = left or re.search(rf"\{{[{{%][^}}%]*\b({'|'.join([*context, '_copier'])})\b", text)
    else:
        left = left or re.search(r"\{\{ |\{%|\{#", text)
    return left[0] if left else ""
