"""Lineage: names, facets, columns and runs, from recorded dbt events."""
