"""One message: what has failed or recovered, why, and who owns it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from hashlib import sha256

DIGITS = 32  # of an id


class Kind(StrEnum):
    """What a message is about."""

    RUN = "failed run"
    CHECK = "failed check"
    LATE = "late asset"
    RECOVERY = "recovery"
    SUMMARY = "summary"
    TEST = "test message"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """A message; its texts contain no secrets.

    Attributes:
        key: The failure or recovery; a second message with this key is the same one.
        kind: What it is about.
        subject: One line with the name of what has failed or recovered.
        cause: The first cause, of limited length; blank for a recovery.
        owners: The owners in Dagster's form.
        at: Time of the failure, in seconds.
        run_id: Id of its run, if it has one.
        job: Name of that run's job in lineage.
        asset: The asset's key, joined by slashes, if it is about one asset.
        details: Further lines, such as other checks that failed in the run.
    """

    key: str
    kind: Kind
    subject: str
    at: float
    cause: str = ""
    owners: tuple[str, ...] = ()
    run_id: str = ""
    job: str = ""
    asset: str = ""
    details: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """Return a name for files and mails that is the same whenever this message is made."""
        return sha256(self.key.encode()).hexdigest()[:DIGITS]

    def as_json(self) -> str:
        """Return the message as JSON."""
        return json.dumps(asdict(self))


def read_alert(text: str) -> Alert:
    """Return the message that `Alert.as_json` has written.

    Raises:
        ValueError: The text is no such JSON.
    """
    try:
        alert = Alert(**json.loads(text))
        return replace(alert, kind=Kind(alert.kind), owners=tuple(alert.owners), details=tuple(alert.details))
    except TypeError as error:
        raise ValueError(str(error)) from error
