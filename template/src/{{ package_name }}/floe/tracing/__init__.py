"""OpenTelemetry: one trace per Dagster run, and metrics.

In the order that data flows: `spans.py` and `metrics.py` make them, with values from `attributes.py`; `watcher.py`
decides when they are sent; `exporters.py` sends them where `endpoint.py` says.
"""
