"""dbt models as Dagster assets. `defs/` is where you add your own."""
