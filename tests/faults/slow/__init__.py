"""Tests of real Dagster runs under faults; they take minutes, so only `nox -s faults` runs them."""
