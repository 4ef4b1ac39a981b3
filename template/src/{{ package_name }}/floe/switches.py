"""Whether lineage, traces and metrics are on: decided by variables and files alone, without a client of either."""

from __future__ import annotations

import os

from .settings import Settings, openlineage_files


def lineage_is_off(settings: Settings) -> bool:
    """Say whether no lineage is sent: it is disabled, or neither an endpoint nor a configuration is set."""
    if _says("OPENLINEAGE_DISABLED", "true"):
        return True
    is_configured = any(name.startswith("OPENLINEAGE__TRANSPORT") for name in os.environ)
    is_named = bool(settings.openlineage_url or os.environ.get("OPENLINEAGE_CONFIG"))
    return not (is_configured or is_named or any(file.is_file() for file in openlineage_files()))


def otlp_is_off(settings: Settings, signal: str) -> bool:
    """Say whether no `traces`, or no `metrics`, are sent: they are disabled, or have no endpoint."""
    endpoint = os.environ.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT") or settings.otlp_endpoint
    return not endpoint or _says("OTEL_SDK_DISABLED", "true") or _says(f"OTEL_{signal.upper()}_EXPORTER", "none")


def _says(variable: str, value: str) -> bool:
    return os.environ.get(variable, "").strip().lower() == value
