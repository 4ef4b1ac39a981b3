"""Tests of settings.toml and .env: a wrong entry or file is named, with the next step, on one line."""

from __future__ import annotations

from pathlib import Path

import pytest
from pipeline.floe import settings as module
from pipeline.floe.settings import FILE, ROOT, read_settings, settings


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("owner = ", "owner = 5 #", "[project] owner is 5; write a string in quotes"),
        ("url = ", 'url = ["a"] #', "[openlineage] url is ['a']; write a string in quotes"),
        ("tier1 = ", "tier1 = 6 #", "[sla] tier1 is 6; write a string in quotes"),
        ("tebibyte = ", 'tebibyte = "6" #', "[prices] tebibyte is '6'; write a number that is not negative"),
        ("tebibyte = ", "tebibyte = -1 #", "[prices] tebibyte is -1; write a number that is not negative"),
        ("variables = ", 'variables = "ACME_LOGIN" #', "[secrets] variables is 'ACME_LOGIN'; write a list of strings"),
        ("facet_schema = ", "facets = ", "[openlineage] has no facet_schema; restore the entry with `git checkout`"),
        ("[sla]", "[slas]", "the section [sla] is missing; restore it with `git checkout`"),
        ("[sla]", "[sla", "cannot be read: "),
    ],
)
def test_wrong_entry(tmp_path: Path, old: str, new: str, words: str) -> None:
    """An entry of the wrong type, a missing one and a broken file are named."""
    text = FILE.read_text()
    assert 1 == text.count(f"\n{old}")
    file = tmp_path / "settings.toml"
    file.write_text(text.replace(f"\n{old}", f"\n{new}", 1))

    with pytest.raises(RuntimeError) as raised:
        read_settings(file)

    message = str(raised.value)
    assert message.startswith(str(file))
    assert words in message
    assert "\n" not in message


def test_missing_file(tmp_path: Path) -> None:
    """A missing settings.toml is named with the way to restore it."""
    with pytest.raises(RuntimeError, match=r"settings\.toml cannot be read: .* restore it with `git checkout`"):
        read_settings(tmp_path / "settings.toml")


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_encoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    """A .env that is not UTF-8 is named."""
    (tmp_path / ".env").write_bytes("FLOE_TEST=größe\n".encode(encoding))
    monkeypatch.setattr(module, "ROOT", tmp_path)

    with pytest.raises(RuntimeError, match=r"\.env cannot be read: .*; save it as UTF-8"):
        read_settings()


def test_relative_state_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative FLOE_STATE_DIR starts at the project's root, wherever a command is run."""
    monkeypatch.setenv("FLOE_STATE_DIR", "state")

    assert ROOT / "state" == settings.state_dir
