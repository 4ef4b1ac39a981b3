"""OpenLineage run events (https://openlineage.io/spec/2-0-2/OpenLineage.json).

In the order of the data flow: `sources.py` collects the facts from Dagster and dbt. `events.py` builds the events, with
facets from `jobs.py`, `datasets.py` and `run_facets.py`. `watcher.py` decides when to send them. `outbox.py` delivers
them through `transports.py`. Column lineage is in `columns/`.
"""
