"""Sensors: `unsent_sensor` sends lineage and traces that are waiting, and ends runs whose processes were lost.

`alert_sensor` sends messages about failed runs, failed checks, late assets and recoveries: see docs/alerts.md.
"""

from ..floe.run import alert_sensor, unsent_sensor

__all__ = ["alert_sensor", "unsent_sensor"]
