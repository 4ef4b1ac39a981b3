"""What the template keeps up to date: metadata, lineage, tracing, logs.

Start with `run.py`: one function, `observe`, through which each dbt command passes.
"""
