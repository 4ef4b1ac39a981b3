"""The former place of `load_manifest`: a `defs/dbt.py` from before version 0.1.0 imports it from here."""

from .run import load_manifest

__all__ = ["load_manifest"]
