"""OpenTelemetry: what dbt says -> one trace a Dagster run, and metrics.

In the order that data flows: `spans.py` (the tree) with `attributes.py` (what a span says), `metrics.py`, `setup.py`
(who sends them) -> `watcher.py` (when they are sent).
"""
