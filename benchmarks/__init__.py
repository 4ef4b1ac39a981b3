"""Benchmarks of the template and its projects, compared with other tools."""
