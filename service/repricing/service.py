"""Repricings on behalf of operators: asked for, waited for, looked up. The work is the worker's."""

import asyncio
from typing import Protocol
from uuid import UUID

from service.db.pools import PostgresPool, connected
from service.errors import AlreadyExists, NotFound
from service.kit.clock import monotonic
from service.kit.ids import new_id
from service.repricing import repository
from service.repricing.repository import RepricingRow
from service.repricing.terms import RepricingTerms

_FIRST_LOOK_SECONDS = 0.02
_LAST_LOOK_SECONDS = 0.5


class Worker(Protocol):
    """Runs what was asked for."""

    def wake(self) -> None:
        """Look for work now."""
        ...


class RepricingService:
    """The repricings of every tenant."""

    def __init__(self, pool: PostgresPool, worker: Worker) -> None:
        self._pool = pool
        self._worker = worker

    async def begin(
        self, tenant_id: str, terms: RepricingTerms, *, applies: bool, created_by: str, wait_seconds: float
    ) -> RepricingRow:
        """Ask for a repricing, or its preview, and return it when it is finished or the time is up.

        Raises AlreadyExists (`repricing_running`) while another one of the tenant is running.
        """
        async with connected(self._pool) as connection:
            row = await repository.insert_repricing(
                connection, tenant_id, new_id(), terms, applies=applies, created_by=created_by
            )
            running = await repository.find_running(connection, tenant_id) if row is None else None
        if row is None:
            raise repricing_is_running(running)
        self._worker.wake()
        return await self._wait(row, wait_seconds)

    async def get(self, tenant_id: str, repricing_id: UUID) -> RepricingRow:
        """Return a repricing. Raises NotFound."""
        async with connected(self._pool) as connection:
            row = await repository.find_repricing(connection, tenant_id, repricing_id)
        if row is None:
            raise NotFound("There is no such repricing.")
        return row

    async def list_page(self, tenant_id: str, *, before: UUID | None, limit: int) -> list[RepricingRow]:
        """Return repricings, newest first."""
        async with connected(self._pool) as connection:
            return await repository.list_repricings(connection, tenant_id, before=before, limit=limit)

    async def _wait(self, row: RepricingRow, wait_seconds: float) -> RepricingRow:
        """Look until it has ended: whoever runs it may be another process."""
        deadline, pause = monotonic() + wait_seconds, _FIRST_LOOK_SECONDS
        while row.state == "running" and monotonic() < deadline:
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LAST_LOOK_SECONDS)
            row = await self.get(row.tenant_id, row.repricing_id)
        return row


def repricing_is_running(running: RepricingRow | None) -> AlreadyExists:
    """Return the refusal of a second repricing at once."""
    which = "" if running is None else f" ({running.repricing_id})"
    return AlreadyExists(f"A repricing of this tenant is running{which}: wait for its end.", code="repricing_running")
