"""OpenLineage run events (https://openlineage.io/spec/2-0-2/OpenLineage.json).

In the order that data flows: `setup.py` gathers what Dagster and dbt know; `events.py` makes the events, with facets
from `jobs.py`, `datasets.py` and `run_facets.py`; `watcher.py` decides when they are sent; `outbox.py` sees that they
arrive, through `transports.py`. Column lineage is in `columns/`.
"""
