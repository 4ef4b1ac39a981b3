"""Metadata, lineage, tracing and logs of dbt runs. The template keeps this package up to date.

Start reading at `run.py`: every dbt command goes through its one function, `observe`.
"""
