"""dbt nodes as Dagster assets, with the metadata in `meta.floe`."""
