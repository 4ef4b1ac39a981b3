"""One evaluation: read what has happened, store the messages, send those that wait."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import dagster as dg

from ..delivery.state_folder import folder_lock, make_state_folder
from ..redact import redact
from ..settings import Settings
from .alert import Alert, Kind
from .catalog import Catalog
from .channels import MOST_WAIT_SECONDS, BusyError, Channel, RefusedError, open_channel, pause
from .config import AlertConfig, is_address
from .events import EventReader
from .history import History, read_history, write_history
from .store import AlertStore, Entry

logger = logging.getLogger(__name__)

REMEDY = "set FLOE_ALERT_WEBHOOK, or add an address to FLOE_ALERT_EMAIL_TO"
SECONDS = 20.0  # for one evaluation; Dagster ends a sensor that takes more than a minute
READING_SECONDS = 10.0  # the part of them for Dagster's events
MOST_MESSAGES = 100  # of one evaluation; the rest becomes one summary
MOST_REFUSALS = 5  # of one message by one channel
REST_SECONDS, LONGEST_REST_SECONDS = 30.0, 900.0  # the pause of a channel that fails, doubled with each failure
NAMED = 20  # messages that a summary names


def alert_folder(settings: Settings) -> Path:
    """Return the folder of the messages that wait, and of the marks of those that were sent."""
    return settings.state_dir / "alerts" / "messages"


def evaluate(
    instance: dg.DagsterInstance,
    settings: Settings,
    config: AlertConfig,
    repository: dg.RepositoryDefinition | None,
    is_own: Callable[[dg.DagsterRun], bool],
    cursor: str | None,
) -> tuple[str, str | None]:
    """Store a message for each failure and recovery since the last evaluation, and send those that wait.

    Args:
        instance: Dagster's instance.
        settings: The project's settings.
        config: Where messages go.
        repository: The definitions of this code location, with the owners of its assets.
        is_own: Says whether a run belongs to this code location.
        cursor: The cursor that the last evaluation has returned.

    Returns:
        A summary, and the cursor for the next evaluation.
    """
    deadline = time.monotonic() + SECONDS
    folder = settings.state_dir / "alerts"
    make_state_folder(alert_folder(settings))
    with folder_lock(folder) as is_exclusive:
        if not is_exclusive:
            return "Another evaluation is going on.", cursor
        history = read_history(folder, cursor)
        store = AlertStore(alert_folder(settings))
        catalog = Catalog(repository, settings.owner)
        reading_until = time.monotonic() + READING_SECONDS
        reader = EventReader(instance=instance, catalog=catalog, history=history, is_own=is_own, deadline=reading_until)
        alerts = [*reader.read()]
        added = _store(store, alerts, config)
        unsent = _without_recipient(alerts, config)
        for line in unsent:
            logger.warning("Alerts: %s", line)
        # Only now is what was read known: a process that is killed before reads the same again.
        write_history(folder, history)
        entries = store.waiting()
        sent, errors = _send_all(store, entries, history, config, settings, deadline)
        write_history(folder, history)
    waiting = sum(bool(entry.refusals) for entry in entries)
    counts = {"new": added, "sent": sent, "waiting": waiting, "dropped": store.dropped}
    parts = [", ".join(f"{count} {name}" for name, count in counts.items() if count) or "nothing to report"]
    return "; ".join([*parts, *unsent, *errors, *config.problems]), history.cursor()


def _store(store: AlertStore, alerts: list[Alert], config: AlertConfig) -> int:
    """Store messages; return how many are new. Of very many, the last are stored as sent, and one names them."""
    first, rest = alerts[:MOST_MESSAGES], alerts[MOST_MESSAGES:]
    added = sum(store.add(alert, config.channels_for(alert.owners)) for alert in first)
    if rest:
        summary = _summary(rest)
        added += store.add(summary, config.channels_for(summary.owners))
        for alert in rest:
            store.add(alert, [])
    return added


def _without_recipient(alerts: list[Alert], config: AlertConfig) -> list[str]:
    """Return a line for the owners whose messages no channel takes, and one for owners with invalid addresses."""
    lines = []
    lost = [alert for alert in alerts if not config.channels_for(alert.owners)]
    if lost:
        owners = dict.fromkeys(owner for alert in lost for owner in alert.owners)
        shown = ", ".join([*owners][:NAMED]) or "none"
        lines.append(redact(f"messages without a recipient: {len(lost)} (owners: {shown}); {REMEDY}"))
    if config.mail and config.mail.to_owners:
        wrong = dict.fromkeys(
            owner for alert in alerts for owner in alert.owners if "@" in owner and not is_address(owner)
        )
        if wrong:
            lines.append(redact(f"owners without e-mail, because their addresses are not valid: {', '.join(wrong)}"))
    return lines


def _summary(alerts: list[Alert]) -> Alert:
    kinds = Counter(alert.kind.value for alert in alerts)
    names = [f"{alert.kind.value}: {alert.subject}" for alert in alerts[:NAMED]]
    more = [f"and {len(alerts) - NAMED} more"] if len(alerts) > NAMED else []
    return Alert(
        key=f"summary {alerts[0].key} to {alerts[-1].key}",
        kind=Kind.SUMMARY,
        subject=f"{len(alerts)} more at once: {', '.join(f'{kind} {count}' for kind, count in kinds.items())}",
        at=alerts[-1].at,
        owners=tuple(dict.fromkeys(owner for alert in alerts for owner in alert.owners)),
        details=(*names, *more),
    )


def _send_all(
    store: AlertStore,
    waiting: list[Entry],
    history: History,
    config: AlertConfig,
    settings: Settings,
    deadline: float,
) -> tuple[int, list[str]]:
    """Send what waits, channel by channel; return the number of messages that a channel took, and the errors."""
    names = sorted({name for entry in waiting for name in entry.refusals})
    sent, errors = 0, []
    for number, name in enumerate(names):
        entries = [entry for entry in waiting if name in entry.refusals]
        if name not in config.channels:  # its variables are wrong, or no longer set
            continue
        # Each channel gets its share of the time, so that one that hangs leaves time for the others.
        until = time.monotonic() + (deadline - time.monotonic()) / (len(names) - number)
        failures, rests_until = history.rests.get(name, (0, 0.0))
        # After the clock was set back, the end of the pause can be far ahead, and no longer counts.
        if 0 < rests_until - time.time() <= MOST_WAIT_SECONDS:
            continue
        channel = open_channel(name, config, settings)
        try:
            sent += _send(store, name, channel, entries, until)
            history.rests.pop(name, None)
        except BusyError as error:
            history.rests[name] = failures, time.time() + error.seconds
            errors.append(f"{name} asks for a pause: {_shown(error)}")
        except Exception as error:  # a client may raise any error
            rest = min(REST_SECONDS * 2**failures, LONGEST_REST_SECONDS)
            history.rests[name] = min(failures + 1, 16), time.time() + rest
            errors.append(f"{name} fails: {_shown(error)}")
        finally:
            channel.close()
    return sent, errors


def _send(store: AlertStore, name: str, channel: Channel, entries: Iterable[Entry], deadline: float) -> int:
    """Send messages through one channel until `deadline`; return how many it took."""
    sent = 0
    for entry in entries:
        if time.monotonic() > deadline:
            break
        try:
            _send_patiently(channel, entry.alert, deadline)
        except RefusedError as error:
            store.refuse(entry, name)
            if entry.refusals[name] >= MOST_REFUSALS:
                store.drop(entry, f"{name} refuses it: {_shown(error)}", name)
        except BusyError:
            raise
        except Exception:
            store.fail(entry)
            raise
        else:
            store.acknowledge(entry, name)
            sent += 1
    return sent


def _send_patiently(channel: Channel, alert: Alert, deadline: float) -> None:
    """Send a message, again after the pauses that the receiver asks for."""
    while True:
        try:
            channel.send(alert)
        except BusyError as error:
            if not pause(error.seconds, deadline):
                raise
        else:
            return


def _shown(error: Exception) -> str:
    # Redacted before it is cut to one line, because a secret may have several.
    lines = redact(str(error)).strip().splitlines() or ["no message"]
    return f"{type(error).__name__}: {lines[0]}"
