"""Readers of dbt's output: its events, debug log, manifest, catalog and profile, turned into plain objects."""
