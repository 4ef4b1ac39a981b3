"""The reading of YAML files that may hold secrets: an error names the place, and quotes nothing."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

QUOTED = re.compile(r"""(['"])(?:(<[a-z ]+>|.)|.*?)\1""")  # in PyYAML's errors; the group is `<scalar>` or a character


class YamlFileError(Exception):
    """A YAML file cannot be read; the message names the file and the place, and quotes nothing of the content."""


def read_yaml(file: Path) -> Any:
    """Return a file's content.

    Raises:
        YamlFileError: It cannot be read. PyYAML's own error quotes the line, which may hold a secret.
    """
    try:
        return yaml.safe_load(file.read_text(encoding="utf-8"))
    except yaml.MarkedYAMLError as error:
        # The names of aliases and tags are quoted, and a password that starts with `*` or `!` is read as one.
        problem = QUOTED.sub(lambda match: match[0] if match[2] else "…", error.problem or "its syntax is wrong")
        mark = error.problem_mark or error.context_mark
        reason = f"{problem}, line {mark.line + 1}, column {mark.column + 1}" if mark else problem
    except (yaml.YAMLError, UnicodeDecodeError):
        reason = "it contains characters that are not text in UTF-8"
    except OSError as error:
        reason = error.strerror or type(error).__name__
    except ValueError:
        reason = "a date or a number in it does not exist: quote it"
    # Raised outside the except clauses, so that no traceback shows PyYAML's error as the cause.
    raise YamlFileError(f"{file} cannot be read; correct it: {reason}")
