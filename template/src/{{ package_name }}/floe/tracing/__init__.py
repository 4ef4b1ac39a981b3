"""OpenTelemetry: what dbt says -> one trace a Dagster run, and metrics.

In the order that data flows: `setup.py` (what Dagster knows) -> `spans.py` (the tree) with `attributes.py` (what a
span says), `metrics.py` -> `watcher.py` (when they are sent).
"""
