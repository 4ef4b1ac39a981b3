"""That the benchmarks tell the truth."""
