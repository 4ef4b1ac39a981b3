"""The text of a message: for a Slack-compatible webhook, and as an e-mail."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime

from ..ids import trace_id
from ..redact import redact
from ..settings import Settings
from .alert import Alert, Kind
from .config import MailConfig, links

MARKS = {
    Kind.RUN: "\N{LARGE RED CIRCLE}",
    Kind.CHECK: "\N{LARGE RED CIRCLE}",
    Kind.LATE: "\N{LARGE YELLOW CIRCLE}",
    Kind.RECOVERY: "\N{LARGE GREEN CIRCLE}",
    Kind.SUMMARY: "\N{LARGE RED CIRCLE}",
    Kind.TEST: "\N{LARGE GREEN CIRCLE}",
}
MAIL_LINE_CHARACTERS = 998  # the limit of e-mail; folded headers keep blanks in some clients
MOST_OWNERS = 10
SUBJECT_CHARACTERS = 200


def title(alert: Alert, settings: Settings) -> str:
    """Return the first line: the kind, what it is about, the project and dbt's output."""
    subject = redact(" ".join(alert.subject.split()))[:SUBJECT_CHARACTERS]
    return redact(f"{alert.kind.value.capitalize()}: {subject} ({settings.name}, {settings.dbt_target})")


def webhook_text(alert: Alert, settings: Settings) -> str:
    """Return the text for a webhook, in Slack's markup, which Mattermost and others understand as well."""
    lines = [f"{MARKS[alert.kind]} *{_escaped(title(alert, settings))}*"]
    if alert.cause:
        lines.append("```" + _escaped(alert.cause).replace("```", "'''") + "```")
    lines += [_escaped(line) for line in _facts(alert)]
    if addresses := [f"<{_escaped(url)}|{label}>" for label, url in _links(alert, settings)]:
        lines.append(" · ".join(addresses))
    return redact("\n".join(lines))


def mail(alert: Alert, settings: Settings, config: MailConfig) -> EmailMessage:
    """Return the e-mail, whose Message-ID is the same whenever it is sent."""
    sender = Address(addr_spec=config.sender)
    message = EmailMessage(policy=SMTP.clone(max_line_length=MAIL_LINE_CHARACTERS))
    message["Subject"] = title(alert, settings)
    message["From"] = Address(settings.name, sender.username, sender.domain)
    message["To"] = [Address(addr_spec=address) for address in config.recipients_for(alert.owners)]
    message["Date"] = format_datetime(datetime.fromtimestamp(alert.at, UTC))
    message["Message-ID"] = f"<{alert.id}.floe@{sender.domain}>"
    message["Auto-Submitted"] = "auto-generated"
    parts = [
        alert.cause,
        "\n".join(_facts(alert)),
        "\n".join(f"{name}: {url}" for name, url in _links(alert, settings)),
    ]
    message.set_content(redact("\n\n".join(filter(None, parts))) + "\n")
    return message


def _facts(alert: Alert) -> Iterator[str]:
    yield from alert.details
    if alert.owners:
        more = len(alert.owners) - MOST_OWNERS
        yield f"Owner: {', '.join(alert.owners[:MOST_OWNERS])}" + (f" and {more} more" if more > 0 else "")
    yield f"Time: {datetime.fromtimestamp(alert.at, UTC):%Y-%m-%d %H:%M:%S} UTC"
    if alert.run_id:
        yield f"Run: {alert.run_id}"


def _links(alert: Alert, settings: Settings) -> list[tuple[str, str]]:
    trace = f"{trace_id(alert.run_id):032x}" if alert.run_id else ""
    return [*links(settings, run_id=alert.run_id, trace_id=trace, job=alert.job, asset=alert.asset)]


def _escaped(text: str) -> str:
    """Escape what Slack would read as markup of links and mentions."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
