"""OpenTelemetry: one trace per Dagster run, and metrics.

In the order of the data flow: `spans.py` and `metrics.py` make spans and metrics, with values from `attributes.py`.
`watcher.py` decides when to send them. `exporters.py` sends them to the endpoint that `endpoint.py` reads.
"""
