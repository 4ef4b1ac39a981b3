"""The shapes on the engines themselves: `nox -s sql`."""
