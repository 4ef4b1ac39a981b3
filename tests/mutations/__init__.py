"""Mutations of the rendered `floe/`, each of which the tests that an owner gets must notice."""
