"""Real Dagster runs that are killed, starved and spied upon: minutes, so `nox -s faults` alone runs them."""
