"""Tests of runs whose endpoints or processes fail."""
