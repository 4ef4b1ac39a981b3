"""The OpenLineage names of files that DuckDB reads and writes outside its database.

In: a location from a dbt project, or the relation that dbt writes into SQL for it, and the folder that dbt runs in.
Out: the name of the file or object by https://openlineage.io/docs/spec/naming, or None if it is not certain. That is
the case for a list of files, for a function that does not just read files, for storage whose account is not in the
text, and for an address whose query string determines the content (and may hold a key).
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

# DuckDB's table functions that read only the files or the table in their first argument.
READERS = {
    "delta_scan",
    "iceberg_scan",
    "parquet_scan",
    "read_avro",
    "read_blob",
    "read_csv",
    "read_csv_auto",
    "read_json",
    "read_json_auto",
    "read_json_objects",
    "read_json_objects_auto",
    "read_ndjson",
    "read_ndjson_auto",
    "read_ndjson_objects",
    "read_parquet",
    "read_text",
    "read_xlsx",
    "st_read",
}
# DuckDB's and Hadoop's scheme of an object store -> the scheme in the specification.
OBJECT_STORES = {"s3": "s3", "s3a": "s3", "s3n": "s3", "gs": "gs", "gcs": "gs"}
AZURE_HOST = ".dfs.core.windows.net"


class DatasetName(NamedTuple):
    """The identity of a dataset in OpenLineage."""

    namespace: str
    name: str


def name_relation(text: str, folder: Path) -> DatasetName | None:
    """Return the name for the text of a relation, such as `'../data/x.csv'` or `read_csv('x.csv')`."""
    from sqlglot import TokenType, tokenize
    from sqlglot.errors import SqlglotError

    try:
        tokens = tokenize(text, read="duckdb")
    except (SqlglotError, ValueError):
        return None
    kinds = [token.token_type for token in tokens]
    if kinds == [TokenType.STRING]:
        # Without a suffix, DuckDB may take it for the name of a table.
        return name_location(tokens[0].text, folder) if Path(tokens[0].text).suffix else None
    if len(tokens) < 4 or tokens[0].text.lower() not in READERS or kinds[1:3] != [TokenType.L_PAREN, TokenType.STRING]:
        return None
    if _closing(kinds) != len(kinds) - 1:
        return None
    named = kinds[3] is TokenType.COMMA and kinds[5:6] in ([TokenType.EQ], [TokenType.COLON_EQ])
    return name_location(tokens[2].text, folder) if len(kinds) == 4 or named else None


def name_location(location: str, folder: Path) -> DatasetName | None:
    """Return the name of a file or object; files that match one pattern are one dataset, named after the pattern."""
    if not re.match(r"\w[\w+.-]*:", location):
        # dbt changes into its folder, after which its path has no symbolic links.
        file = Path.home() / location[2:] if location.startswith("~/") else Path(location)
        return DatasetName("file", os.path.normpath(Path(os.path.realpath(folder)) / file))
    try:
        url = urlsplit(location, allow_fragments=False)
        host = url.hostname or ""
        port = f":{url.port}" if url.port else ""
    except ValueError:
        return None
    path = url.path.strip("/")
    if url.scheme == "file" and host in {"", "localhost"} and url.path.startswith("/"):
        return DatasetName("file", os.path.normpath(unquote(url.path)))
    if not path or not host:
        return None
    if url.scheme in OBJECT_STORES and ("=" in url.query or not url.query):
        # The part after the ? is DuckDB's settings for the request, which do not choose the object.
        return DatasetName(f"{OBJECT_STORES[url.scheme]}://{url.netloc.rpartition('@')[2]}", path)
    if url.scheme in {"http", "https"} and not url.query:
        return DatasetName(f"{url.scheme}://{host}{port}", f"/{path}")
    return _azure(url.scheme, url.username, host, path) if url.scheme in {"abfss", "wasbs"} else None


def _azure(scheme: str, container: str | None, host: str, path: str) -> DatasetName | None:
    """Return the name of a blob: {container}@{account host}/{path}, or DuckDB's {account host}/{container}/{path}."""
    if container is None:
        container, _, path = path.partition("/")
    if not path or not host.endswith(AZURE_HOST):
        return None
    return DatasetName(f"{scheme}://{container}@{host}", path)


def _closing(kinds: Sequence[object]) -> int | None:
    """Return the position of the parenthesis that closes the first one."""
    from sqlglot import TokenType

    depth = 0
    for position, kind in enumerate(kinds):
        depth += (kind is TokenType.L_PAREN) - (kind is TokenType.R_PAREN)
        if kind is TokenType.R_PAREN and depth == 0:
            return position
    return None
