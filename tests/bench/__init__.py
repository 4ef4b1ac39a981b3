"""Tests that the benchmarks report the truth."""
