"""The command `floe` and its output."""
