"""Public dbt projects, built through Dagster on DuckDB: their events are compared with the warehouse."""
