"""Sensors: `unsent_sensor` sends lineage and traces that are waiting, and ends runs whose processes were lost."""

from ..floe.run import unsent_sensor

__all__ = ["unsent_sensor"]
