"""Everything that Dagster loads: assets, resources and schedules. Dagster finds every module in this folder."""
