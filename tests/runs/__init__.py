"""Whole runs: projects of several kinds through Dagster, installed or as an image has them: `uvx nox -s runs`."""
