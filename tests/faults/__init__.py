"""Endpoints and processes that go wrong, and what a run makes of it."""
