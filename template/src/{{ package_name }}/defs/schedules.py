"""When assets are built."""

import dagster as dg

# Off until it is switched on in the UI: a new project builds nothing by itself.
daily = dg.ScheduleDefinition(
    name="daily",
    target=dg.AssetSelection.all(),
    cron_schedule="0 6 * * *",
    execution_timezone="UTC",
)
