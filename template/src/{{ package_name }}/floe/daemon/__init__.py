"""The work of Dagster's daemon: sending what waits, and ending the runs whose processes are lost."""
