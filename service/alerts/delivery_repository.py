"""The outbox of alerts: deliveries claimed, ended, put off, forgotten."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from importlib.resources import files
from typing import Any
from uuid import UUID

import msgspec
from psycopg import AsyncConnection
from psycopg.rows import dict_row

from service.alerts.alert import Alert, Event
from service.alerts.attempts import Attempt

_CLAIM = files("service.alerts").joinpath("sql/claim_deliveries.sql").read_text("utf-8")

# Only the attempt that was claimed last may say what became of the delivery.
_END = """
UPDATE webhook_delivery
SET state = %(state)s, finished_at = clock_timestamp(), last_status = %(status)s, last_error = %(error)s
WHERE tenant_id = %(tenant_id)s AND delivery_id = %(delivery_id)s AND state = 'pending' AND attempts = %(attempts)s
"""
_PUT_OFF = """
UPDATE webhook_delivery AS d
SET next_attempt_at = t.next_attempt_at, last_status = %(status)s, last_error = %(error)s,
    state = CASE WHEN t.is_too_late THEN 'failed' ELSE 'pending' END,
    finished_at = CASE WHEN t.is_too_late THEN clock_timestamp() END
FROM (
    SELECT delivery_id, at + make_interval(secs => %(delay_seconds)s) AS next_attempt_at,
           at + make_interval(secs => %(delay_seconds)s) > created_at + %(give_up_after)s AS is_too_late
    FROM webhook_delivery CROSS JOIN (SELECT clock_timestamp() AS at) AS c
    WHERE tenant_id = %(tenant_id)s AND delivery_id = %(delivery_id)s
) AS t
WHERE d.tenant_id = %(tenant_id)s AND d.delivery_id = t.delivery_id AND d.state = 'pending'
  AND d.attempts = %(attempts)s
RETURNING d.state
"""
_RELEASE = """
UPDATE webhook_delivery SET attempts = attempts - 1, next_attempt_at = clock_timestamp()
WHERE tenant_id = %(tenant_id)s AND delivery_id = %(delivery_id)s AND state = 'pending' AND attempts = %(attempts)s
"""
_OLDEST_PENDING = """
SELECT COALESCE(extract(epoch FROM clock_timestamp() - min(created_at)), 0)::float8
FROM webhook_delivery WHERE state = 'pending'
"""
# What waits for a disabled webhook longer than anything is retried.
_GIVE_UP = """
UPDATE webhook_delivery SET state = 'failed', finished_at = clock_timestamp(), last_error = 'the webhook is disabled'
WHERE (tenant_id, delivery_id) IN (
    SELECT d.tenant_id, d.delivery_id FROM webhook_delivery AS d JOIN webhook AS h USING (tenant_id, webhook_id)
    WHERE d.state = 'pending' AND NOT h.is_enabled AND d.created_at < clock_timestamp() - %s::interval
    LIMIT %s
)
"""
_FORGET = """
DELETE FROM webhook_delivery WHERE (tenant_id, delivery_id) IN (
    SELECT tenant_id, delivery_id FROM webhook_delivery
    WHERE finished_at < clock_timestamp() - %s::interval LIMIT %s
)
"""


class ClaimedDelivery(msgspec.Struct, frozen=True, kw_only=True):
    """A delivery this process is to make; `alert` None = a test. Its representation is kept free of the secret."""

    tenant_id: str
    delivery_id: UUID
    webhook_id: UUID
    event: Event
    attempts: int
    created_at: datetime
    url: str
    host: str
    template: Any
    escapes_markup: bool
    secret: str
    alert: Alert | None

    def __repr__(self) -> str:
        return f"ClaimedDelivery({self.delivery_id}, attempt {self.attempts})"


_alert_decoder = msgspec.json.Decoder(Alert)


async def claim_deliveries(
    connection: AsyncConnection[Any],
    *,
    in_flight: Mapping[str, int],
    per_host: int,
    most: int,
    lease_seconds: float,
) -> list[ClaimedDelivery]:
    """Claim deliveries that are due; each comes up again after the lease unless it is ended or put off."""
    parameters = {
        "in_flight": msgspec.json.encode(in_flight).decode(),
        "per_host": per_host,
        "most": most,
        "lease_seconds": lease_seconds,
    }
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(_CLAIM, parameters)
        rows = await cursor.fetchall()
    return [ClaimedDelivery(**row | {"alert": row["alert"] and _alert_decoder.decode(row["alert"])}) for row in rows]


async def end_delivery(
    connection: AsyncConnection[Any], claimed: ClaimedDelivery, state: str, attempt: Attempt
) -> None:
    """End a delivery: `delivered` or `failed`."""
    await connection.execute(_END, _parameters(claimed) | _outcome(attempt) | {"state": state})


async def put_off(
    connection: AsyncConnection[Any],
    claimed: ClaimedDelivery,
    attempt: Attempt,
    *,
    delay_seconds: float,
    give_up_after: timedelta,
) -> bool:
    """Have a delivery tried again after a delay, or fail it when it is too old then; tell whether it goes on."""
    timing = {"delay_seconds": delay_seconds, "give_up_after": give_up_after}
    cursor = await connection.execute(_PUT_OFF, _parameters(claimed) | _outcome(attempt) | timing)
    row = await cursor.fetchone()
    return row is None or row[0] == "pending"


async def release(connection: AsyncConnection[Any], claimed: ClaimedDelivery) -> None:
    """Give a delivery back that was not made."""
    await connection.execute(_RELEASE, _parameters(claimed))


async def read_oldest_pending_seconds(connection: AsyncConnection[Any]) -> float:
    """Return the age of the oldest delivery that is not ended; 0 = there is none."""
    row = await (await connection.execute(_OLDEST_PENDING)).fetchone()
    assert row is not None
    return float(row[0])


async def give_up_disabled(connection: AsyncConnection[Any], older_than: timedelta, most: int) -> int:
    """Fail deliveries that waited too long for a disabled webhook; return how many."""
    return (await connection.execute(_GIVE_UP, (older_than, most))).rowcount


async def forget_ended(connection: AsyncConnection[Any], older_than: timedelta, most: int) -> int:
    """Delete deliveries that ended so long ago; return how many."""
    return (await connection.execute(_FORGET, (older_than, most))).rowcount


def _parameters(claimed: ClaimedDelivery) -> dict[str, Any]:
    return {"tenant_id": claimed.tenant_id, "delivery_id": claimed.delivery_id, "attempts": claimed.attempts}


def _outcome(attempt: Attempt) -> dict[str, Any]:
    return {"status": attempt.status, "error": attempt.error}
