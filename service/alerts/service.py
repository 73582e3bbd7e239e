"""Alerts as people see them, and the webhooks they are sent to; every change of these is in the audit trail."""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, Final
from uuid import UUID

import msgspec
from psycopg import AsyncConnection

from service.alerts import repository, webhook_repository
from service.alerts.alert import Alert
from service.alerts.repository import AlertFilter, DeliveryFilter, DeliveryRow, Position, Scope
from service.alerts.sender import Sender, judge_of
from service.alerts.signature import KEY_BYTES, secret_text
from service.alerts.template import check_template
from service.alerts.webhook import Webhook, WebhookTerms
from service.audit.repository import record
from service.budgets.repository import find_live
from service.db.pools import PostgresPool, connected
from service.errors import InvalidInput, NotFound, StateConflict
from service.kit.ids import new_id, random_bytes
from service.outbound import AddressRefused, AddressUnknown
from service.settings import AlertsSettings

MAX_WEBHOOKS: Final = 100


class AlertService:
    """Lists alerts and deliveries of a tenant."""

    def __init__(self, pool: PostgresPool) -> None:
        self._pool = pool

    async def list_alerts(
        self, tenant_id: str, chosen: AlertFilter, *, scope: Scope, before: Position | None, limit: int
    ) -> list[Alert]:
        """Return alerts, newest first, as far as the scope reaches."""
        async with connected(self._pool) as connection:
            return await repository.list_alerts(connection, tenant_id, chosen, scope=scope, before=before, limit=limit)

    async def list_deliveries(
        self, tenant_id: str, chosen: DeliveryFilter, *, scope: Scope, before: Position | None, limit: int
    ) -> list[DeliveryRow]:
        """Return deliveries, newest first, as far as the scope reaches."""
        async with connected(self._pool) as connection:
            return await repository.list_deliveries(
                connection, tenant_id, chosen, scope=scope, before=before, limit=limit
            )


class WebhookService:
    """Creates, changes, tests and deletes webhooks of a tenant."""

    def __init__(self, pool: PostgresPool, sender: Sender, settings: AlertsSettings) -> None:
        self._pool = pool
        self._sender = sender
        self._judge = judge_of(settings)

    async def create(self, tenant_id: str, terms: WebhookTerms, author: str) -> tuple[Webhook, str]:
        """Create a webhook; return it and its secret, which nobody can ask for again."""
        await self._check(terms)
        secret = secret_text(random_bytes(KEY_BYTES))
        async with connected(self._pool) as connection, connection.transaction():
            await webhook_repository.lock_webhooks(connection, tenant_id)
            if await webhook_repository.count_webhooks(connection, tenant_id) >= MAX_WEBHOOKS:
                raise StateConflict(f"There are at most {MAX_WEBHOOKS} webhooks; delete one.", code="too_many_webhooks")
            await _check_budgets(connection, tenant_id, terms.budgets)
            webhook = await webhook_repository.insert_webhook(connection, tenant_id, new_id(), terms, secret)
            await _record(connection, author, None, webhook)
        return webhook, secret

    async def get(self, tenant_id: str, webhook_id: UUID) -> Webhook:
        """Return a webhook. Raises NotFound."""
        async with connected(self._pool) as connection:
            return await _find(connection, tenant_id, webhook_id)

    async def list_page(self, tenant_id: str, *, after: UUID | None, limit: int) -> list[Webhook]:
        """Return webhooks, oldest first."""
        async with connected(self._pool) as connection:
            return await webhook_repository.list_webhooks(connection, tenant_id, after=after, limit=limit)

    async def change(self, tenant_id: str, webhook_id: UUID, changes: Mapping[str, Any], author: str) -> Webhook:
        """Change some terms of a webhook; its secret stays. Raises NotFound, InvalidInput."""
        await self._check((await self.get(tenant_id, webhook_id)).terms, changes)
        async with connected(self._pool) as connection, connection.transaction():
            before = await _find(connection, tenant_id, webhook_id, for_update=True)
            terms = msgspec.structs.replace(before.terms, **changes)
            await _check_budgets(connection, tenant_id, terms.budgets, kept=before.terms.budgets)
            after = await webhook_repository.store_webhook(connection, tenant_id, webhook_id, terms)
            if after != before:
                await _record(connection, author, before, after)
        self._sender.wake()
        return after

    async def delete(self, tenant_id: str, webhook_id: UUID, author: str) -> None:
        """Delete a webhook; what was to be delivered is canceled. Raises NotFound."""
        async with connected(self._pool) as connection, connection.transaction():
            before = await _find(connection, tenant_id, webhook_id, for_update=True)
            await webhook_repository.delete_webhook(connection, tenant_id, webhook_id)
            await _record(connection, author, before, None)

    async def test(self, tenant_id: str, webhook_id: UUID) -> UUID:
        """Have a test delivered; return the id of the delivery. Raises NotFound, StateConflict."""
        delivery_id = new_id()
        async with connected(self._pool) as connection, connection.transaction():
            webhook = await _find(connection, tenant_id, webhook_id, for_update=True)
            if not webhook.terms.is_enabled:
                raise StateConflict("The webhook is disabled; enable it first.", code="webhook_disabled")
            await webhook_repository.add_test(connection, tenant_id, webhook_id, delivery_id)
        self._sender.wake()
        return delivery_id

    async def _check(self, terms: WebhookTerms, changes: Mapping[str, Any] | None = None) -> None:
        """Refuse an address that is not asked, and a template that cannot be filled in. Raises InvalidInput."""
        if changes is None or "template" in changes:
            check_template(terms.template if changes is None else changes["template"])
        if changes is not None and "url" not in changes:
            return
        terms = terms if changes is None else msgspec.structs.replace(terms, url=changes["url"])
        try:
            self._judge.check_url(terms.url)
            host, _, port = terms.host.rpartition(":")
            await self._judge.find_addresses(host, int(port))
        except (AddressRefused, AddressUnknown) as error:
            raise InvalidInput(
                f"No webhook is delivered there: {error}.", code="url_not_allowed", field="url"
            ) from error


async def _find(
    connection: AsyncConnection[Any], tenant_id: str, webhook_id: UUID, *, for_update: bool = False
) -> Webhook:
    webhook = await webhook_repository.find_webhook(connection, tenant_id, webhook_id, for_update=for_update)
    if webhook is None:
        raise NotFound("There is no such webhook.")
    return webhook


async def _check_budgets(
    connection: AsyncConnection[Any], tenant_id: str, slugs: Sequence[str], *, kept: Sequence[str] = ()
) -> None:
    """Refuse slugs of no budget; those named before may be archived by now. Raises InvalidInput."""
    new = [slug for slug in slugs if slug not in kept]
    known = await find_live(connection, tenant_id, new) if new else {}
    for index, slug in enumerate(slugs):
        if slug in new and slug not in known:
            raise InvalidInput(
                f"There is no budget {slug!r}; name budgets by their slugs, or none for all.",
                code="unknown_budget",
                field=f"budgets[{index}]",
            )


async def _record(connection: AsyncConnection[Any], author: str, before: Webhook | None, after: Webhook | None) -> None:
    webhook = after or before
    assert webhook is not None
    verb = "created" if before is None else "deleted" if after is None else "changed"
    await record(
        connection,
        webhook.tenant_id,
        changed_by=author,
        action=f"webhook.{verb}",
        subject_type="webhook",
        subject_id=str(webhook.webhook_id),
        before=_document(before),
        after=_document(after),
    )


def _document(webhook: Webhook | None) -> dict[str, Any] | None:
    if webhook is None:
        return None
    # Whoever knows the address of a chat's webhook may post there: the trail tells it from others, and no more.
    digest = sha256(webhook.terms.url.encode()).hexdigest()[:12]
    return msgspec.structs.asdict(webhook.terms) | {"url": f"{webhook.terms.host}, sha256 {digest}"}
