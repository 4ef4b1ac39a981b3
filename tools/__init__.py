"""Parts that tests, benchmarks and commands share: renderings, receivers, engines, recordings, releases."""
