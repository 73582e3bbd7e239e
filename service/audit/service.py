"""Shows a tenant's audit trail. Entries are written by whoever makes a change, with `repository.record`."""

from uuid import UUID

from service.audit import repository
from service.audit.repository import AuditFilter, EntryRow
from service.db.pools import PostgresPool, connected


class AuditTrail:
    """The audit trails of every tenant."""

    def __init__(self, pool: PostgresPool) -> None:
        self._pool = pool

    async def list_page(
        self, tenant_id: str, chosen: AuditFilter, *, before_entry: UUID | None, limit: int
    ) -> list[EntryRow]:
        """Return entries, newest first. Raises Unavailable."""
        async with connected(self._pool) as connection:
            return await repository.list_entries(connection, tenant_id, chosen, before_entry=before_entry, limit=limit)
