"""Everything Dagster loads: assets, resources, schedules. Each module here is found by itself."""
