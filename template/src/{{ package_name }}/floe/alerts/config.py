"""The variables that say where messages go, and what is wrong with them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.errors import MessageError
from email.headerregistry import Address
from urllib.parse import quote, urlsplit

from ..settings import ALERT_WEBHOOK, Settings

MAIL = "mail"  # the name of that channel; a webhook's is that of its variable
OWNERS = "owners"  # in FLOE_ALERT_EMAIL_TO: the addresses among the owners of what has failed
ADDRESS = re.compile(r"[^@\s,<>]+@[^@\s,<>]+")
SMTP_PORT, TLS_PORT = 25, 465
SUBMISSION_PORT = 587  # the default with SMTP_USER
LINKS = {"FLOE_TRACE_URL": {"trace_id"}, "FLOE_LINEAGE_URL": {"namespace", "job", "run_id"}}
PLACEHOLDER = re.compile(r"\{(\w*)\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class MailConfig:
    """The mail server and the addresses; `to_owners` adds the addresses among the owners."""

    host: str
    port: int
    user: str
    password: str
    sender: str
    recipients: tuple[str, ...]
    to_owners: bool

    def recipients_for(self, owners: tuple[str, ...]) -> list[str]:
        """Return the addresses for a message."""
        own = [owner for owner in owners if is_address(owner)] if self.to_owners else []
        return [*dict.fromkeys([*self.recipients, *own])]


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertConfig:
    """Where messages go.

    Attributes:
        webhooks: Variable -> URL.
        webhook_of: Owner -> variable of the webhook that gets its messages instead of FLOE_ALERT_WEBHOOK.
        mail: The mail server, if there is one.
        problems: What is wrong, with the variable and the next step.
    """

    webhooks: Mapping[str, str]
    webhook_of: Mapping[str, str]
    mail: MailConfig | None
    problems: tuple[str, ...]

    @property
    def is_off(self) -> bool:
        """Return whether no message can be sent."""
        return not self.channels

    @property
    def channels(self) -> list[str]:
        """Return the names of all channels."""
        return [*self.webhooks, *([MAIL] if self.mail else [])]

    def channels_for(self, owners: tuple[str, ...]) -> list[str]:
        """Return the names of the channels for a message."""
        named = [self.webhook_of.get(owner, ALERT_WEBHOOK) for owner in owners] or [ALERT_WEBHOOK]
        usable = [name if name in self.webhooks else ALERT_WEBHOOK for name in named]
        channels = [name for name in dict.fromkeys(usable) if name in self.webhooks]
        return [*channels, *([MAIL] if self.mail and self.mail.recipients_for(owners) else [])]


def is_address(text: str) -> bool:
    """Return whether an e-mail can be addressed to `text`; Dagster accepts owners for which this is false."""
    try:
        # The library refuses letters outside of ASCII, which many servers take.
        return bool(ADDRESS.fullmatch(text) and Address(addr_spec=re.sub(r"[^\x00-\x7f]", "x", text)))
    except (ValueError, IndexError, MessageError):  # the library's errors differ
        return False


def read_config(settings: Settings) -> AlertConfig:
    """Read the variables."""
    problems: list[str] = []
    webhooks = {name: value for name in settings.webhook_variables if (value := _value(name))}
    for name, url in list(webhooks.items()):
        if problem := _url_problem(url):
            problems.append(f"{name} {problem}: copy the webhook's URL again")
            del webhooks[name]
    for owner, name in settings.alert_webhooks.items():
        if not name.isidentifier():  # such as a URL, which must not be shown
            problems.append(f"[alert_webhooks] in floe/settings.toml: write the name of a variable for {owner}")
        elif not _value(name):
            problems.append(
                f"{name} is not set, which [alert_webhooks] in floe/settings.toml names for {owner}: set it"
            )
    for name, known in LINKS.items():
        template = _value(name)
        unknown = sorted(set(PLACEHOLDER.findall(template)) - known)
        if unknown:
            allowed = ", ".join("{" + placeholder + "}" for placeholder in sorted(known))
            problems.append(name + " contains {" + unknown[0] + "}: use " + allowed)
    problems += [
        f"{name} {problem}: write http://host or https://host"
        for name in (*LINKS, "FLOE_DAGSTER_URL")
        if (value := _value(name)) and (problem := _url_problem(value))
    ]
    mail = _mail(problems)
    return AlertConfig(webhooks=webhooks, webhook_of=settings.alert_webhooks, mail=mail, problems=tuple(problems))


def links(settings: Settings, *, run_id: str, trace_id: str, job: str, asset: str) -> Iterator[tuple[str, str]]:
    """Yield the label and the address of each link that the variables allow."""
    if base := _value("FLOE_DAGSTER_URL").rstrip("/"):
        if run_id:
            yield "Run", f"{base}/runs/{quote(run_id)}"
        if asset:
            yield "Asset", f"{base}/assets/{quote(asset)}"
    if run_id and (template := _value("FLOE_TRACE_URL")):
        yield "Trace", _filled(template, trace_id=trace_id)
    if job and (template := _value("FLOE_LINEAGE_URL")):
        yield "Lineage", _filled(template, namespace=settings.namespace, job=job, run_id=run_id)


def _filled(template: str, **values: str) -> str:
    return PLACEHOLDER.sub(lambda match: quote(values.get(match[1], match[0]), safe=""), template)


def _mail(problems: list[str]) -> MailConfig | None:
    before = len(problems)
    to, sender, host, user = (
        _value(name) for name in ("FLOE_ALERT_EMAIL_TO", "FLOE_ALERT_EMAIL_FROM", "SMTP_HOST", "SMTP_USER")
    )
    if not to:
        if sender:
            problems.append("FLOE_ALERT_EMAIL_FROM is set, but FLOE_ALERT_EMAIL_TO is not: set it to the recipients")
        return None
    recipients = [part for part in re.split(r"[,;\s]+", to) if part]
    problems += [
        f"FLOE_ALERT_EMAIL_TO contains {part!r}: write addresses separated by commas, or {OWNERS}"
        for part in recipients
        if part != OWNERS and not is_address(part)
    ]
    if not recipients:
        problems.append(f"FLOE_ALERT_EMAIL_TO contains no address: write addresses separated by commas, or {OWNERS}")
    if not host:
        problems.append("FLOE_ALERT_EMAIL_TO is set, but SMTP_HOST is not: set it to the name of your mail server")
    sender = sender or (user if is_address(user) else "")
    if not is_address(sender):
        problems.append("FLOE_ALERT_EMAIL_FROM is not an address: set it to one that your mail server may send from")
    if bool(user) != bool(_value("SMTP_PASSWORD")):
        missing, other = ("SMTP_PASSWORD", "SMTP_USER") if user else ("SMTP_USER", "SMTP_PASSWORD")
        problems.append(f"{other} is set, but {missing} is not: set both, or neither")
    port = _value("SMTP_PORT") or str(SUBMISSION_PORT if user else SMTP_PORT)
    if not port.isdecimal() or not 0 < int(port) < 65536:
        problems.append(f"SMTP_PORT is {port!r}: write a number, such as {SUBMISSION_PORT}")
    if len(problems) > before:
        return None
    return MailConfig(
        host=host,
        port=int(port),
        user=user,
        password=_value("SMTP_PASSWORD"),
        sender=sender,
        recipients=tuple(part for part in recipients if part != OWNERS),
        to_owners=OWNERS in recipients,
    )


def _url_problem(url: str) -> str:
    try:
        parts = urlsplit(url)
        # Text before a slash in a password counts as a port, which is none then.
        is_url = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_url = False
    return "" if is_url else "is not a URL"


def _value(name: str) -> str:
    return os.environ.get(name, "").strip()
