"""Messages about failed runs, failed checks, late assets and recoveries, to their owners, from Dagster's daemon."""
