"""Every statement about webhooks. Secrets are written here, and read by the claim of a delivery only."""
# ruff: noqa: S608 — only a constant list of columns is put into statements

from hashlib import blake2b
from typing import Any, Final
from uuid import UUID

import msgspec
from psycopg import AsyncConnection
from psycopg.rows import DictRow, dict_row

from service.alerts.webhook import Webhook, WebhookTerms
from service.audit.repository import record

_COLUMNS: Final = (
    "tenant_id, webhook_id, url, description, events, budgets, template::text AS template, escapes_markup, is_enabled,"
    " disabled_reason, created_at"
)
_INSERT = f"""
INSERT INTO webhook (
    tenant_id, webhook_id, url, host, description, events, budgets, template, escapes_markup, is_enabled, secret
)
VALUES (
    %(tenant_id)s, %(webhook_id)s, %(url)s, %(host)s, %(description)s, %(events)s, %(budgets)s, %(template)s::json,
    %(escapes_markup)s, %(is_enabled)s, %(secret)s
)
RETURNING {_COLUMNS}
"""
_LOCK_TENANT = "SELECT pg_advisory_xact_lock(%s)"
_COUNT = "SELECT count(*) FROM webhook WHERE tenant_id = %s"
_LIST = f"""
SELECT {_COLUMNS} FROM webhook
WHERE tenant_id = %(tenant_id)s AND webhook_id > %(after)s ORDER BY webhook_id LIMIT %(limit)s
"""
_FIND = f"SELECT {_COLUMNS} FROM webhook WHERE tenant_id = %s AND webhook_id = %s"
_LOCK = f"{_FIND} FOR UPDATE"
_STORE = f"""
UPDATE webhook
SET url = %(url)s, host = %(host)s, description = %(description)s, events = %(events)s, budgets = %(budgets)s,
    template = %(template)s::json, escapes_markup = %(escapes_markup)s, is_enabled = %(is_enabled)s,
    disabled_reason = CASE
        WHEN %(is_enabled)s THEN NULL WHEN is_enabled THEN 'disabled by an administrator' ELSE disabled_reason
    END
WHERE tenant_id = %(tenant_id)s AND webhook_id = %(webhook_id)s
RETURNING {_COLUMNS}
"""
_DELETE = "DELETE FROM webhook WHERE tenant_id = %s AND webhook_id = %s"
_CANCEL_DELIVERIES = """
UPDATE webhook_delivery
SET state = 'canceled', finished_at = clock_timestamp(), last_error = 'the webhook was deleted'
WHERE tenant_id = %s AND webhook_id = %s AND state = 'pending'
"""
_ADD_TEST = """
INSERT INTO webhook_delivery (tenant_id, delivery_id, webhook_id, event, state, created_at, next_attempt_at)
SELECT %s, %s, %s, 'webhook.test', 'pending', at, at FROM (SELECT clock_timestamp() AS at) AS t
"""
_DISABLE_GONE = """
UPDATE webhook SET is_enabled = false, disabled_reason = %s
WHERE tenant_id = %s AND webhook_id = %s AND is_enabled
RETURNING webhook_id
"""
_GONE_REASON: Final = "the receiver answered 410 Gone"
_AUTHOR: Final = "delivery of alerts"


async def insert_webhook(
    connection: AsyncConnection[Any], tenant_id: str, webhook_id: UUID, terms: WebhookTerms, secret: str
) -> Webhook:
    """Store a new webhook."""
    stored = await _fetch(connection, _INSERT, _parameters(tenant_id, webhook_id, terms) | {"secret": secret})
    assert stored is not None, "INSERT … RETURNING without a row"
    return stored


async def lock_webhooks(connection: AsyncConnection[Any], tenant_id: str) -> None:
    """Let nobody else add webhooks of the tenant until the transaction ends."""
    digest = blake2b(tenant_id.encode(), digest_size=8, person=b"tg-webhooks").digest()
    await connection.execute(_LOCK_TENANT, (int.from_bytes(digest, signed=True),))


async def count_webhooks(connection: AsyncConnection[Any], tenant_id: str) -> int:
    """Return how many webhooks a tenant has."""
    row = await (await connection.execute(_COUNT, (tenant_id,))).fetchone()
    assert row is not None
    return int(row[0])


async def list_webhooks(
    connection: AsyncConnection[Any], tenant_id: str, *, after: UUID | None, limit: int
) -> list[Webhook]:
    """Return webhooks, oldest first, those after the given one."""
    parameters = {"tenant_id": tenant_id, "after": after or UUID(int=0), "limit": limit}
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(_LIST, parameters)
        return [_webhook(row) for row in await cursor.fetchall()]


async def find_webhook(
    connection: AsyncConnection[Any], tenant_id: str, webhook_id: UUID, *, for_update: bool = False
) -> Webhook | None:
    """Return a webhook; with `for_update` it stays as it is until the transaction ends."""
    return await _fetch(connection, _LOCK if for_update else _FIND, (tenant_id, webhook_id))


async def store_webhook(
    connection: AsyncConnection[Any], tenant_id: str, webhook_id: UUID, terms: WebhookTerms
) -> Webhook:
    """Store other terms of a webhook that is locked."""
    stored = await _fetch(connection, _STORE, _parameters(tenant_id, webhook_id, terms))
    assert stored is not None, "changed after it was locked"
    return stored


async def delete_webhook(connection: AsyncConnection[Any], tenant_id: str, webhook_id: UUID) -> None:
    """Delete a webhook with its secret; what was to be delivered is canceled."""
    await connection.execute(_DELETE, (tenant_id, webhook_id))
    await connection.execute(_CANCEL_DELIVERIES, (tenant_id, webhook_id))


async def add_test(connection: AsyncConnection[Any], tenant_id: str, webhook_id: UUID, delivery_id: UUID) -> None:
    """Have a test delivered."""
    await connection.execute(_ADD_TEST, (tenant_id, delivery_id, webhook_id))


async def disable_gone(connection: AsyncConnection[Any], tenant_id: str, webhook_id: UUID) -> None:
    """Disable a webhook whose receiver says that it is gone, and say so in the audit trail."""
    cursor = await connection.execute(_DISABLE_GONE, (_GONE_REASON, tenant_id, webhook_id))
    if await cursor.fetchone() is not None:
        await record(
            connection,
            tenant_id,
            changed_by=_AUTHOR,
            action="webhook.disabled",
            subject_type="webhook",
            subject_id=str(webhook_id),
            before={"enabled": True},
            after={"enabled": False, "disabled_reason": _GONE_REASON},
        )


async def _fetch(connection: AsyncConnection[Any], statement: str, parameters: Any) -> Webhook | None:
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(statement, parameters)
        row = await cursor.fetchone()
    return None if row is None else _webhook(row)


def _webhook(row: DictRow) -> Webhook:
    template = row["template"]
    terms = WebhookTerms(
        url=row["url"],
        description=row["description"],
        events=tuple(row["events"]),
        budgets=tuple(row["budgets"]),
        template=None if template is None else msgspec.json.decode(template),
        escapes_markup=row["escapes_markup"],
        is_enabled=row["is_enabled"],
    )
    return Webhook(
        tenant_id=row["tenant_id"],
        webhook_id=row["webhook_id"],
        terms=terms,
        disabled_reason=row["disabled_reason"],
        created_at=row["created_at"],
    )


def _parameters(tenant_id: str, webhook_id: UUID, terms: WebhookTerms) -> dict[str, Any]:
    template = None if terms.template is None else msgspec.json.encode(terms.template).decode()
    return {
        **msgspec.structs.asdict(terms),
        "tenant_id": tenant_id,
        "webhook_id": webhook_id,
        "host": terms.host,
        "events": list(terms.events),
        "budgets": list(terms.budgets),
        "template": template,
    }
