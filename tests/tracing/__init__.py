"""Traces and logs of real runs."""
