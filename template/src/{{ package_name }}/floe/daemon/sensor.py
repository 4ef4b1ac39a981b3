"""The sensors of Dagster's daemon: one sends what waits and ends lost runs, one sends messages about failures."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from functools import partial

import dagster as dg

from ..redact import redact
from ..settings import alerts_are_off, lineage_is_off, otlp_is_off, settings

logger = logging.getLogger(__name__)

INTERVAL_SECONDS = 60
# The first evaluation looks back this far; later ones look back to the last one in which nothing was left to do.
FIRST_LOOK = timedelta(days=1)
OVERLAP = timedelta(minutes=10)
IS_OFF = lineage_is_off(settings) and otlp_is_off(settings, "traces")


@dg.sensor(
    name="floe_unsent",
    minimum_interval_seconds=INTERVAL_SECONDS,
    default_status=dg.DefaultSensorStatus.STOPPED if IS_OFF else dg.DefaultSensorStatus.RUNNING,
    description="Sends lineage events and spans that are waiting, and ends runs whose processes were lost.",
)
def unsent_sensor(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    """Send what waits and end lost runs; an error never fails the evaluation."""
    now = datetime.now(UTC)
    try:
        since = datetime.fromisoformat(context.cursor) if context.cursor else now - FIRST_LOOK
        # Imported here, because loading a code location should not pay for these imports.
        from .delivery import Sensor

        origin = context.code_location_origin
        sensor = Sensor(context.instance, settings, origin.location_name if origin else None)
        if sensor.is_off:
            return dg.SkipReason("Neither lineage nor traces are on.")
        summary, is_done = sensor.run(since)
        if is_done:
            context.update_cursor((now - OVERLAP).isoformat())
        return dg.SkipReason(summary)
    except Exception as error:
        logger.warning("The sensor could not send what waits: %s", redact(str(error)), exc_info=True)
        return dg.SkipReason(f"Failed; the log has the reason: {redact(str(error))}")


@dg.sensor(
    name="floe_alerts",
    minimum_interval_seconds=INTERVAL_SECONDS,
    default_status=(dg.DefaultSensorStatus.STOPPED if alerts_are_off(settings) else dg.DefaultSensorStatus.RUNNING),
    description="Sends messages about failed runs, failed checks, late assets and recoveries: see docs/alerts.md.",
)
def alert_sensor(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    """Send a message for each failure and each recovery; an error never fails the evaluation."""
    try:
        from ..alerts.config import read_config
        from ..alerts.evaluation import evaluate
        from .lost_runs import is_of

        config = read_config(settings)
        if config.is_off:
            return dg.SkipReason("; ".join(("Alerts are off: set FLOE_ALERT_WEBHOOK.", *config.problems)))
        origin = context.code_location_origin
        is_own = partial(is_of, location=origin.location_name if origin else None)
        summary, cursor = evaluate(context.instance, settings, config, context.repository_def, is_own, context.cursor)
        context.update_cursor(cursor)
        return dg.SkipReason(redact(summary))
    except Exception as error:
        logger.warning("The sensor could not send messages about failures: %s", redact(str(error)), exc_info=True)
        return dg.SkipReason(f"Failed; the log has the reason: {redact(str(error))}")
