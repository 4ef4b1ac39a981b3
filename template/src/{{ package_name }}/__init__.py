"""dbt models as Dagster assets. Add your own assets, resources and schedules in `defs/`."""
