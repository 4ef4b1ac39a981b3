"""The transports of OpenLineage's client, each as a function that sends an event's JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any
from urllib.parse import urljoin

from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState
from openlineage.client.facet_v2 import parent_run
from openlineage.client.transport import Transport, http
from openlineage.client.transport.http import HttpTransport
from requests.adapters import HTTPAdapter
from requests.utils import get_netrc_auth

from ..delivery.channel import REFUSALS, RefusedError
from ..delivery.http_session import HttpSession, post_directly

MEMBER_SECONDS = 1.0  # that one of several transports may take for an event

Send = Callable[[str], None]

# The client's providers of tokens (JWT, OAuth) take no session: they call `requests.post`, which would take the owner's
# credentials to wherever a redirect points. If a release no longer finds it here, tokens are fetched as before.
vars(http)["requests"] = SimpleNamespace(post=post_directly)


def sender(transport: Transport) -> Send:
    """Return what sends one event, and raises what the transport raises, or `RefusedError`."""
    for member in _http_transports(transport):
        member.session = HttpSession()
        if member is not transport:
            # One that is dead must not use up the time of the others, which get each event after it.
            member.session.mount(member.url, HTTPAdapter())
            member.timeout = min(member.timeout, MEMBER_SECONDS)
    # The client's own transports take events as objects and turn them into JSON again, for a third of what it takes to
    # send one. Over HTTP, where lineage usually goes, the text leaves as it is.
    emit = _posted(transport) if type(transport) is HttpTransport else lambda text: transport.emit(run_event(text))

    def send(text: str) -> None:
        try:
            emit(text)
        except Exception as error:
            response = getattr(error, "response", None)
            if getattr(response, "status_code", None) in REFUSALS:
                raise RefusedError(str(error)) from error
            raise

    return send


def _posted(transport: HttpTransport) -> Send:
    url, session = urljoin(transport.url, transport.endpoint), transport.session
    # requests looks through the environment for proxies, certificates and .netrc at each request, which takes as long
    # as the request itself: here it does once.
    environment = session.merge_environment_settings(url, {}, False, transport.verify, transport.cert)
    session.auth = get_netrc_auth(url)
    session.trust_env = False

    def post(text: str) -> None:
        # Adds authentication, the owner's headers and compression; the client has no public way to them.
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


def _http_transports(transport: Transport) -> Iterator[HttpTransport]:
    """Yield a transport, or those that it hands events on to, as far as they speak HTTP."""
    if isinstance(transport, HttpTransport):
        yield transport
    # As those that hand events on call them: composite, transform and datadog.
    named = (getattr(transport, name, None) for name in ("transport", "http"))
    for member in (*getattr(transport, "transports", ()), *named):
        if isinstance(member, Transport):
            yield from _http_transports(member)


def run_event(text: str) -> RunEvent:
    """Return the event that `text` is; its facets stay dictionaries, but for the one that Kafka's transport reads."""
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
