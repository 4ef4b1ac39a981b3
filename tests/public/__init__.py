"""Public dbt projects, built through Dagster on DuckDB: what their events say, beside what the warehouse has."""
