"""OpenLineage: what dbt says -> run events (https://openlineage.io/spec/2-0-2/OpenLineage.json).

In the order that data flows: `setup.py` (what Dagster and dbt know) -> `run_events.py` (the events) with `jobs.py`,
`datasets.py`, `run_facets.py` (what they say) -> `watcher.py` (when they are sent) -> `outbox.py` (that they arrive)
with `transports.py` and `event_json.py`. Column lineage: `columns/`.
"""
