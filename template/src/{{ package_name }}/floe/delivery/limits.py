"""The limits of all deliveries: seconds, failures in a row, and bytes."""

from __future__ import annotations

# Seconds.
BUDGET_SECONDS = 3.0  # what all deliveries of a run together add to it
SPOOL_SECONDS = 0.5  # the end of this budget, in which nothing is sent but unsent items are written to disk
TIMEOUT_SECONDS = 2  # one attempt; the journal replaces retries
MEMBER_SECONDS = 1.0  # one event, for one of several OpenLineage transports
LINGER_SECONDS = 1.0  # the time that a batch waits for more items
REST_SECONDS = 10.0  # the pause of a channel whose endpoint fails
TOKEN_SECONDS = 10  # fetching a token
BODY_SECONDS = 0.5  # reading a response
BEAT_SECONDS = 5.0  # after which a living process touches its files again
STALE_SECONDS = 60.0  # after which an untouched file of another host belongs to a dead process

FAILURES = 3  # in a row, after which the endpoint is to blame rather than the item

# Bytes.
QUEUE_BYTES = 32 * 1024 * 1024  # the queue of each channel
FOLDER_BYTES = 64 * 1024 * 1024  # all journals together
BODY_BYTES = 65_536  # the part of a response that is read; a short one to its end, which keeps the connection open
TOKEN_BYTES = 1024 * 1024  # the response of a token endpoint
