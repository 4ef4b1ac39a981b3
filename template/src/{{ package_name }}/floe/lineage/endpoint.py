"""The OpenLineage endpoint, from the standard configuration of OpenLineage's client or the template's answers."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from openlineage.client import OpenLineageClient
from openlineage.client.event_v2 import Job, Run, RunEvent
from openlineage.client.transport import Transport
from openlineage.client.transport.http import HttpTransport

from ..delivery.counts import one_line
from ..delivery.diagnosis import LINEAGE, EndpointError, SwitchedOffError
from ..delivery.journal import none_runs
from ..delivery.limits import TIMEOUT_SECONDS
from ..redact.yaml_files import YamlFileError, read_yaml
from ..settings import Settings, lineage_is_off, openlineage_files
from .outbox import Outbox
from .transports import http_transports, remove_silent, synchronous

# Kinds of transports that send nothing -> what they do.
SILENT = {
    "noop": "sends nothing: choose another, or set OPENLINEAGE_DISABLED=true",
    "console": "only writes to the log of a run, and only with LOG_LEVEL=INFO or DEBUG",
}
SYNTAX = "https://openlineage.io/docs/client/python"


def open_lineage(
    settings: Settings, run_id: str, is_running: Callable[[str], bool] = none_runs, *, replays: bool = True
) -> Outbox | None:
    """Return the outbox for the lineage events of the Dagster run `run_id`, or None if lineage is off.

    `is_running` says of other Dagster runs whether they go on. Earlier events are sent as well if it `replays`.

    Raises:
        EndpointError: The configuration is wrong, or sends nothing (`SwitchedOffError`).
    """
    client = lineage_client(settings)
    return Outbox(client, journal_folder(settings), run_id, is_running, replays=replays) if client else None


def journal_folder(settings: Settings) -> Path:
    """Return the folder of the journals, where unsent events are stored."""
    return settings.state_dir / "lineage"


def lineage_client(settings: Settings) -> OpenLineageClient | None:
    """Return OpenLineage's own client, configured by openlineage.yml or OPENLINEAGE_*, else with the answer's URL.

    Raises:
        EndpointError: The configuration is wrong, or sends nothing (`SwitchedOffError`).
    """
    if lineage_is_off(settings):
        return None
    owner = owner_configuration()
    _refuse_broken_json()
    before = set(os.environ)
    try:
        client = _configured_by(owner) if owner else _configured_by_url(settings.openlineage_url)
        _refuse_unusable(client, owner)
        return client
    finally:
        # The client copies OPENLINEAGE_URL and the key to further variables, which dbt would inherit.
        for variable in set(os.environ) - before:
            del os.environ[variable]


def _configured_by_url(url: str) -> OpenLineageClient:
    endpoint = os.environ.get("OPENLINEAGE_ENDPOINT", "api/v1/lineage")
    transport: dict[str, Any] = {
        "type": "http",
        "endpoint": endpoint.lstrip("/"),
        "timeout": TIMEOUT_SECONDS,
        "retry": {"total": 0},
    }
    if key := os.environ.get("OPENLINEAGE_API_KEY"):
        transport["auth"] = {"type": "api_key", "apiKey": key}
    try:
        transport["url"] = _base_url(url, endpoint)
        return OpenLineageClient(config={"transport": transport})
    except EndpointError:
        raise
    except Exception as error:
        if not (names := _variables("OPENLINEAGE__")) or "url" in str(error):
            raise EndpointError(f"OPENLINEAGE_URL={url} is not a URL: write http://host:port") from error
        raise EndpointError(_invalid(", ".join(names), error)) from error


def _base_url(url: str, endpoint: str) -> str:
    """Return a base URL for the client, which would cut off its path, or repeat `endpoint` if that is already there."""
    path, parts = endpoint.strip("/"), urlsplit(url)
    if parts.query or parts.fragment:
        raise EndpointError(f"OPENLINEAGE_URL={url} has a query or a fragment, which cannot be sent: leave it out")
    return url.strip().rstrip("/").removesuffix(f"/{path}") + "/"


def _configured_by(owner: str) -> OpenLineageClient:
    file = Path(owner).expanduser()
    if file.is_file():
        try:
            read_yaml(file)
        except YamlFileError as error:
            raise EndpointError(str(error)) from error
    try:
        client = OpenLineageClient()
    except Exception as error:  # the client validates nothing, so every mistake raises a different error
        is_file = owner not in os.environ
        names = owner if is_file else ", ".join(_variables("OPENLINEAGE__TRANSPORT"))
        raise EndpointError(_invalid(names, error)) from error
    if client.transport.kind == "console" and (client.config.transport or {}).get("type") != "console":
        # The client falls back to this transport, which would print each event to the log.
        raise EndpointError(f"{owner} names no transport: add `transport:` with `type:`; see {SYNTAX}")
    client.transport = synchronous(client.transport)
    for transport in http_transports(client.transport):
        _refuse_invalid(owner, transport)
    if silent := remove_silent(client.transport):
        reasons = dict.fromkeys(f"{transport.kind}, which {SILENT[str(transport.kind)]}" for transport in silent)
        raise SwitchedOffError(f"{owner} chooses the transport {', and '.join(reasons)}")
    return client


def _refuse_unusable(client: OpenLineageClient, owner: str | None) -> None:
    """Raise EndpointError if the client cannot emit any event, because it validates tags and the like only then."""
    transport, client.transport = client.transport, _Nowhere()
    try:
        job = Job("floe", "configuration")
        client.emit(RunEvent(eventTime=datetime.now(UTC).isoformat(), run=Run(str(uuid4())), job=job))
    except Exception as error:
        others = [name for name in _variables("OPENLINEAGE__") if not name.startswith("OPENLINEAGE__TRANSPORT")]
        places = [owner] if owner and owner not in os.environ else []
        raise EndpointError(_invalid(", ".join([*places, *others]), error)) from error
    finally:
        client.transport = transport


class _Nowhere(Transport):
    """A transport that sends nothing."""

    kind = "nowhere"

    def emit(self, _: Any) -> None:
        pass


def _variables(prefix: str) -> list[str]:
    return sorted(name for name in os.environ if name.startswith(prefix))


def _invalid(names: str, error: Exception) -> str:
    return f"{names} is invalid; correct it: {one_line(error)}; see {SYNTAX}"


def _refuse_broken_json() -> None:
    """Raise EndpointError for a variable whose JSON cannot be parsed; the client would log it, secrets included."""
    for name in _variables("OPENLINEAGE__"):
        if os.environ[name].lstrip().startswith(("{", "[")):
            try:
                json.loads(os.environ[name])
            except ValueError as error:
                raise EndpointError(f"{name} is not valid JSON; correct it: {error}") from None


def _refuse_invalid(owner: str, transport: HttpTransport) -> None:
    """Raise EndpointError for values that the client accepts but cannot send anything with."""
    timeout, verify = transport.timeout, transport.verify
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not timeout > 0:
        name = _place(owner, "timeout", timeout)
        raise EndpointError(f"{name} is not a number of seconds above 0: correct it, or remove it")
    if isinstance(verify, str) and not Path(verify).exists():
        name = _place(owner, "verify", verify)
        raise EndpointError(f"{name} does not exist: set it to the file of the certificate authority")


def _place(owner: str, key: str, value: object) -> str:
    variable = f"OPENLINEAGE__TRANSPORT__{key.upper()}"
    return f"{variable}={value}" if variable in os.environ else f"`{key}: {value}` in {owner}"


def owner_configuration() -> str | None:
    """Return the file or variable with which the owner configures OpenLineage's client, or None."""
    named = os.environ.get("OPENLINEAGE_CONFIG")
    if named and not Path(named).is_file():
        raise EndpointError(f"OPENLINEAGE_CONFIG={named} is not a file: correct it in .env, or remove it")
    files = (str(file) for file in openlineage_files() if file.is_file())
    variables = (name for name in os.environ if name.startswith("OPENLINEAGE__TRANSPORT"))
    return next(files, None) or next(variables, None)


def transport_owner() -> str | None:
    """Return the file or the variable that configures the transport, or None if it is OPENLINEAGE_URL or an answer."""
    owner = owner_configuration()
    if owner is None or owner in os.environ:
        return owner
    try:
        content = read_yaml(Path(owner))
    except YamlFileError:  # reported when the client is made
        return owner
    if isinstance(content, dict) and content.get("transport"):
        return owner
    return next(iter(_variables("OPENLINEAGE__TRANSPORT")), None)


def lineage_hints() -> dict[str, str]:
    """Return the hints about lineage; in the owner's configuration, other keys are to be corrected."""
    if not (owner := transport_owner()):
        return LINEAGE
    if owner in os.environ and owner != "OPENLINEAGE__TRANSPORT":
        variables = _variables("OPENLINEAGE__TRANSPORT__")
        url, auth, endpoint = (
            " or ".join(name for name in variables if name.endswith(end)) or f"OPENLINEAGE__TRANSPORT{end}"
            for end in ("__URL", "__AUTH", "__ENDPOINT")
        )
        path = f"{url} or {endpoint}"
    else:
        url, auth, path = f"`url` in {owner}", f"`auth` in {owner}", f"`url` or `endpoint` in {owner}"
    return {**LINEAGE, "url": url, "key": auth, "header": auth, "path": path}
