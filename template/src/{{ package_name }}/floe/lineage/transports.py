"""The transports of OpenLineage's client, each as a function that sends an event's JSON."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import SimpleNamespace
from typing import Any
from urllib.parse import urljoin

import attr
from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState
from openlineage.client.facet_v2 import parent_run
from openlineage.client.transport import Transport, http
from openlineage.client.transport.async_http import AsyncHttpTransport
from openlineage.client.transport.composite import CompositeTransport
from openlineage.client.transport.console import ConsoleTransport
from openlineage.client.transport.datadog import DatadogTransport
from openlineage.client.transport.http import HttpConfig, HttpTransport
from openlineage.client.transport.noop import NoopTransport
from requests.adapters import HTTPAdapter
from requests.utils import get_netrc_auth

from ..delivery.channel import REFUSALS, RefusedError
from ..delivery.counts import one_line
from ..delivery.http_session import HttpSession, post_directly
from ..delivery.limits import MEMBER_SECONDS

Send = Callable[[str], None]

# The client's token providers (JWT, OAuth) do not accept a session. They call `requests.post`, which would send the
# owner's credentials to the target of any redirect. If a release moves the call, tokens are fetched as before.
vars(http)["requests"] = SimpleNamespace(post=post_directly)


def sender(transport: Transport) -> Send:
    """Return a function that sends one event; it raises the transport's error, or `RefusedError`."""
    for member in http_transports(transport):
        member.session = HttpSession()
        if member is not transport:
            # A dead transport must not use up the time of the others, which get each event after it.
            member.session.mount(member.url, HTTPAdapter())
            member.timeout = min(member.timeout, MEMBER_SECONDS)
    errors: list[Exception] = []
    if isinstance(transport, CompositeTransport):  # its own error gives no reason
        for part in transport.transports:
            vars(part)["emit"] = partial(_recorded, errors, part.emit)

    # The client's own transports take events as objects and convert them to JSON again, which takes a third of the
    # time of sending one. Over HTTP, the usual transport, the text is sent unchanged.
    emit = _posted(transport) if type(transport) is HttpTransport else lambda text: transport.emit(_parsed(text))

    def send(text: str) -> None:
        errors.clear()
        try:
            emit(text)
        except Exception as error:
            if errors:
                kind = RefusedError if all(map(_is_refusal, errors)) else ConnectionError
                raise kind("; ".join(map(one_line, errors))) from error
            if _is_refusal(error):
                raise RefusedError(str(error)) from error
            raise

    return send


def _is_refusal(error: Exception) -> bool:
    return getattr(getattr(error, "response", None), "status_code", None) in REFUSALS


def _recorded(errors: list[Exception], emit: Callable[[RunEvent], Any], event: RunEvent) -> Any:
    try:
        return emit(event)
    except Exception as error:
        errors.append(error)
        raise


def _posted(transport: HttpTransport) -> Send:
    url, session = urljoin(transport.url, transport.endpoint), transport.session
    # For each request, requests searches the environment for proxies, certificates and .netrc, which takes as long as
    # the request itself. Here it does so once.
    environment = session.merge_environment_settings(url, {}, False, transport.verify, transport.cert)
    session.auth = get_netrc_auth(url)
    session.trust_env = False

    def post(text: str) -> None:
        # This adds authentication, the owner's headers and compression, for which the client has no public method.
        body, headers = transport._prepare_request(text)
        response = session.post(
            url,
            data=body,
            headers=headers,
            timeout=transport.timeout,
            verify=environment["verify"],
            cert=environment["cert"],
            proxies=environment["proxies"],
        )
        response.raise_for_status()

    return post


def synchronous(transport: Transport) -> Transport:
    """Return a transport that waits for each answer, in place of `transport` and those to which it forwards events."""
    # An asynchronous transport reports every event as sent but keeps it in memory. Here, a thread of our own waits.
    if isinstance(transport, AsyncHttpTransport):
        transport.may_exit.set()
        fields = attr.fields_dict(HttpConfig).keys() & attr.fields_dict(type(transport.config)).keys()
        waiting = HttpTransport(HttpConfig(**{name: getattr(transport.config, name) for name in fields}))
        waiting.name, waiting.priority = transport.name, transport.priority
        return waiting
    if isinstance(transport, DatadogTransport):
        transport.config.async_transport_rules = {}
    if isinstance(transport, CompositeTransport):
        transport.transports[:] = map(synchronous, transport.transports)
    if isinstance(member := getattr(transport, "transport", None), Transport):
        vars(transport)["transport"] = synchronous(member)
    return transport


def remove_silent(transport: Transport) -> list[Transport]:
    """Remove the members of a composite transport that send nothing; return what is silent if nothing else is left."""
    # Such a member accepts every event, so an event that no receiver has taken would count as sent.
    members = list(_members(transport))
    silent = {id(member): kinds for member in members if (kinds := remove_silent(member))}
    if members:
        if len(silent) == len(members):
            return [leaf for leaves in silent.values() for leaf in leaves]
        if silent and isinstance(transport, CompositeTransport):
            transport.transports[:] = [member for member in members if id(member) not in silent]
        return []
    # The transport writes events with this logger, at this level.
    is_logged = logging.getLogger(type(transport).__module__).isEnabledFor(logging.INFO)
    is_silent = isinstance(transport, NoopTransport) or (isinstance(transport, ConsoleTransport) and not is_logged)
    return [transport] if is_silent else []


def http_transports(transport: Transport) -> Iterator[HttpTransport]:
    """Yield a transport and those to which it forwards events, if they use HTTP."""
    if isinstance(transport, HttpTransport):
        yield transport
    for member in _members(transport):
        yield from http_transports(member)


def _members(transport: Transport) -> Iterator[Transport]:
    """Yield the transports to which a transport forwards events."""
    # The attributes of the transports that do so: composite, transform and datadog.
    named = (getattr(transport, name, None) for name in ("transport", "http"))
    for member in (*getattr(transport, "transports", ()), *named):
        if isinstance(member, Transport):
            yield member


def _parsed(text: str) -> RunEvent:
    """Return an event from a journal, which another version may have written.

    Raises:
        RefusedError: It is not a run event of this version of the client, and never will be.
    """
    try:
        return run_event(text)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise RefusedError(f"a line of a journal is not a run event: {one_line(error)}") from error


def run_event(text: str) -> RunEvent:
    """Parse an event; its facets stay dictionaries, except for the one that Kafka's transport reads."""
    content = json.loads(text)
    run, job = content["run"], content["job"]
    facets = run.get("facets", {})
    if "parent" in facets:
        facets["parent"] = _parent(facets["parent"])
    return RunEvent(
        eventTime=content["eventTime"],
        eventType=RunState(content["eventType"]),
        run=Run(run["runId"], facets),
        job=Job(job["namespace"], job["name"], job.get("facets", {})),
        inputs=[InputDataset(**dataset) for dataset in content.get("inputs", [])],
        outputs=[OutputDataset(**dataset) for dataset in content.get("outputs", [])],
        producer=content["producer"],
    )


def _parent(facet: Mapping[str, Any]) -> parent_run.ParentRunFacet:
    root = facet.get("root")
    return parent_run.ParentRunFacet(
        run=parent_run.Run(**facet["run"]),
        job=parent_run.Job(**facet["job"]),
        root=parent_run.Root(run=parent_run.RootRun(**root["run"]), job=parent_run.RootJob(**root["job"]))
        if root
        else None,
        producer=facet["_producer"],
    )
