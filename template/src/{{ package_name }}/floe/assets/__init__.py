"""dbt nodes as Dagster assets, with what `meta.floe` says of them."""
