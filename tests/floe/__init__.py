"""Tests of the rendered package, module by module."""
