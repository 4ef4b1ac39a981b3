"""The shapes of SQL that column lineage is tried on, and the table of them in the docs."""
