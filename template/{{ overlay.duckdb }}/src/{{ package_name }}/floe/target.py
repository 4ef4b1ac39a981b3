"""The compute target: DuckDB, the engine of every output."""

from __future__ import annotations

from .warehouse import DUCKDB

TARGET = DUCKDB
