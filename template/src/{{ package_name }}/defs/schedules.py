"""Schedules: when assets are built."""

import dagster as dg

# Off until you switch it on in the UI, so that a new project builds nothing on its own.
daily = dg.ScheduleDefinition(
    name="daily",
    target=dg.AssetSelection.all(),
    cron_schedule="0 6 * * *",
    execution_timezone="UTC",
)
