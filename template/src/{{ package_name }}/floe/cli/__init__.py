"""The command `floe`, and what it prints."""
