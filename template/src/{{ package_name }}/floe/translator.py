"""The former place of `FloeTranslator`: a `defs/dbt.py` from before version 0.1.0 imports it from here."""

from .run import FloeTranslator

__all__ = ["FloeTranslator"]
