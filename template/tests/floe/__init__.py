"""Tests of the package `floe`, without dbt, a warehouse or a network: they fail if an edit breaks what it sends."""
