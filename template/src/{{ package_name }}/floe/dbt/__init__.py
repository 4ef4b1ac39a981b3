"""What dbt says: its events, debug log, manifest, catalog and profile, read once and turned into plain objects."""
