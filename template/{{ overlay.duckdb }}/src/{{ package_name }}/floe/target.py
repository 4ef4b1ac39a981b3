"""The compute target: DuckDB, the engine of all outputs."""

from __future__ import annotations

from .warehouse import DUCKDB

TARGET = DUCKDB
