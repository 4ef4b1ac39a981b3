"""The answers in `settings.toml`, the environment variables that override them, and what is switched off."""

from __future__ import annotations

import os
import shutil
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from dotenv import load_dotenv

ALERT_WEBHOOK = "FLOE_ALERT_WEBHOOK"
FILE = Path(__file__).with_name("settings.toml")
# FILE is src/<package>/floe/settings.toml. An installed wheel has no such root and uses its working folder.
ROOT = FILE.parents[3] if FILE.parents[2].name == "src" else Path.cwd()


@dataclass(frozen=True, slots=True)
class Settings:
    """The project's settings: each field comes from the environment, or else from `settings.toml`."""

    name: str
    namespace: str
    owner: str
    dbt_project_dir: Path
    dbt_artifacts_dir: Path
    dbt_image_dir: Path
    dbt_profiles_dir: Path
    dbt_profile: str
    dbt_target: str
    openlineage_url: str
    producer: str
    facet_schema: str
    otlp_endpoint: str
    otlp_protocol: str
    sla_tiers: Mapping[str, str]
    prices: Mapping[str, float]
    alert_webhooks: Mapping[str, str]
    secret_variables: tuple[str, ...]

    @property
    def webhook_variables(self) -> tuple[str, ...]:
        """Return the variables of webhooks for messages, whose URLs are secret."""
        return tuple(dict.fromkeys((ALERT_WEBHOOK, *self.alert_webhooks.values())))

    @property
    def state_dir(self) -> Path:
        """Return the folder for data that outlives a run: unsent lineage events and the columns of models."""
        return ROOT / (os.environ.get("FLOE_STATE_DIR") or ".floe")

    @property
    def dbt_manifest(self) -> Path:
        """Return the file of dbt's manifest.

        In production, it may be part of an image, which is read-only, while dbt's artifacts go to another folder.
        """
        own, image = (folder / "manifest.json" for folder in (self.dbt_artifacts_dir, self.dbt_image_dir))
        return image if self.dbt_target == "prod" and not own.exists() and image.exists() else own


def read_settings(file: Path = FILE) -> Settings:
    """Read `settings.toml` and the environment, including `.env` in the project's root.

    Raises:
        RuntimeError: A file cannot be read, or an entry of `settings.toml` is missing or wrong; the message names both.
    """
    _load_variables(ROOT / ".env")
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
        text = partial(_text, document)
        project_dir, artifacts_dir = _path(text("dbt", "project_dir")), _path(text("dbt", "artifacts_dir"))
        return Settings(
            name=_first("OTEL_SERVICE_NAME", text("project", "name")),
            namespace=_first("OPENLINEAGE_NAMESPACE", text("project", "namespace")),
            owner=text("project", "owner"),
            dbt_project_dir=project_dir,
            dbt_artifacts_dir=project_dir / _first("DBT_TARGET_PATH", str(artifacts_dir)),
            dbt_image_dir=artifacts_dir,
            dbt_profiles_dir=_path(text("dbt", "profiles_dir")),
            dbt_profile=_first("DBT_PROFILE", text("dbt", "profile")),
            dbt_target=_first("DBT_TARGET", text("dbt", "target")),
            openlineage_url=_first("OPENLINEAGE_URL", text("openlineage", "url")),
            producer=text("openlineage", "producer"),
            facet_schema=text("openlineage", "facet_schema"),
            otlp_endpoint=_first("OTEL_EXPORTER_OTLP_ENDPOINT", text("otlp", "endpoint")),
            otlp_protocol=_first("OTEL_EXPORTER_OTLP_PROTOCOL", text("otlp", "protocol")),
            sla_tiers={name: text("sla", name) for name in _table(document, "sla")},
            prices={name: _number(document, "prices", name) for name in _table(document, "prices")},
            alert_webhooks={owner: text("alert_webhooks", owner) for owner in _table(document, "alert_webhooks")},
            secret_variables=tuple(_texts(document, "secrets", "variables")),
        )
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        msg = f"{file} cannot be read: {error}; correct it, or restore it with `git checkout`"
        raise RuntimeError(msg) from error
    except (KeyError, TypeError) as error:
        msg = f"{file}: {error.args[0]}"
        raise RuntimeError(msg) from error


def _load_variables(file: Path) -> None:
    try:
        load_dotenv(file)
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{file} cannot be read: {error}; save it as UTF-8"
        raise RuntimeError(msg) from error


def _table(document: Mapping[str, Any], section: str) -> Mapping[str, Any]:
    table = document.get(section)
    if not isinstance(table, dict):
        raise KeyError(f"the section [{section}] is missing; restore it with `git checkout`")
    return table


def _entry(document: Mapping[str, Any], section: str, name: str) -> Any:
    table = _table(document, section)
    if name not in table:
        raise KeyError(f"[{section}] has no {name}; restore the entry with `git checkout`")
    return table[name]


def _text(document: Mapping[str, Any], section: str, name: str) -> str:
    value = _entry(document, section, name)
    if not isinstance(value, str):
        raise TypeError(f"[{section}] {name} is {value!r}; write a string in quotes")
    return value


def _texts(document: Mapping[str, Any], section: str, name: str) -> list[str]:
    value = _entry(document, section, name)
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise TypeError(f"[{section}] {name} is {value!r}; write a list of strings")
    return value


def _number(document: Mapping[str, Any], section: str, name: str) -> float:
    value = _entry(document, section, name)
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise TypeError(f"[{section}] {name} is {value!r}; write a number that is not negative")
    return float(value)


def openlineage_files() -> list[Path]:
    """Return the files in which OpenLineage's client looks for its configuration, in its order."""
    named = os.environ.get("OPENLINEAGE_CONFIG")
    files = (named, "openlineage.yml", "~/.openlineage/openlineage.yml")
    return [Path(file).expanduser() for file in files if file]


def lineage_is_off(settings: Settings) -> bool:
    """Return whether lineage is off: it is disabled, or neither an endpoint nor a configuration is set."""
    if switch("lineage"):
        return True
    is_configured = any(name.startswith("OPENLINEAGE__TRANSPORT") for name in os.environ)
    is_named = bool(settings.openlineage_url or os.environ.get("OPENLINEAGE_CONFIG"))
    return not (is_configured or is_named or any(file.is_file() for file in openlineage_files()))


def otlp_is_off(settings: Settings, signal: str) -> bool:
    """Return whether the signal, `traces` or `metrics`, is off: it is disabled or has no endpoint."""
    endpoint = os.environ.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT") or settings.otlp_endpoint
    return bool(switch(signal)) or not endpoint


def alerts_are_off(settings: Settings) -> bool:
    """Return whether no variable says where messages about failures go."""
    return not any(os.environ.get(name) for name in (*settings.webhook_variables, "FLOE_ALERT_EMAIL_TO"))


def switch(signal: str) -> str | None:
    """Return the variable that switches `lineage`, `traces` or `metrics` off, as `NAME=value`; None if none does."""
    switches = {"OTEL_SDK_DISABLED": "true", f"OTEL_{signal.upper()}_EXPORTER": "none"}
    if signal == "lineage":
        switches = {"OPENLINEAGE_DISABLED": "true"}
    return next((f"{name}={value}" for name, value in switches.items() if _is_set_to(name, value)), None)


def _path(relative: str) -> Path:
    """Return a path relative to the root as an absolute path without `..`."""
    return Path(os.path.normpath(ROOT / relative))


def _first(variable: str, default: str) -> str:
    return os.environ.get(variable) or default


def _set_absolute_warehouse() -> None:
    """Make DUCKDB_PATH absolute, because dbt and Dagster resolve a relative path against different folders."""
    path = os.environ.get("DUCKDB_PATH") or "local/warehouse.duckdb"
    if ":" not in path:
        os.environ["DUCKDB_PATH"] = str(ROOT / path)


def _keep_artifacts_together(settings: Settings) -> None:
    """Let every dbt command write to the folder of the setting: dagster-dbt reads it from the environment only."""
    if settings.dbt_artifacts_dir != settings.dbt_project_dir / "target":  # dbt's default
        os.environ["DBT_TARGET_PATH"] = str(settings.dbt_artifacts_dir)
        os.environ.setdefault("DBT_LOG_PATH", str(settings.dbt_artifacts_dir / "logs"))


def _put_dbt_on_path() -> None:
    """Put the interpreter's folder first on PATH, where dagster-dbt looks for dbt, as an activated environment does."""
    folder = str(Path(sys.executable).parent)
    path = os.environ.get("PATH", os.defpath)
    if shutil.which("dbt", path=folder) and path.split(os.pathsep)[0] != folder:
        os.environ["PATH"] = f"{folder}{os.pathsep}{path}"


def _set_home(folder: Path) -> None:
    """Make `folder` the home of a user without one, such as the arbitrary user of a container; dbt fails without."""
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = str(folder)


def _silence_grpc() -> None:
    """Keep gRPC's core from writing its own lines to standard error, which are not JSON; it reads this when imported.

    Its errors reach the exporter anyway, which reports them.
    """
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")


def _is_set_to(variable: str, value: str) -> bool:
    return os.environ.get(variable, "").strip().lower() == value


settings = read_settings()
_set_home(settings.state_dir)
_silence_grpc()
_put_dbt_on_path()
_set_absolute_warehouse()
_keep_artifacts_together(settings)
