"""Metadata, lineage, tracing and logs of dbt runs, kept up to date by the template.

Start with `run.py`: one function, `observe`, through which each dbt command passes.
"""
