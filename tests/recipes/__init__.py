"""Tests that follow template/docs/recipes.md word for word, on DuckDB: `nox -s recipes`."""
