"""Budgets as operators see them: created, changed in place, replaced, archived; and what their counters say.

Every write is a change of the tenant's configuration, so that a new or changed budget is enforced everywhere at once.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any
from uuid import UUID

import msgspec
import psycopg
from psycopg import AsyncConnection
from psycopg_pool import PoolTimeout

from service.audit.repository import COMMAND_LINE
from service.budgets import repository
from service.budgets.budget import Budget, BudgetDraft, BudgetTerms, State
from service.budgets.creation import make_budgets
from service.budgets.limits import changed_budget
from service.budgets.repository import Scope
from service.budgets.schemas import check_highest_limit
from service.budgets.seeding import BudgetSeeder, ConfigChanges
from service.budgets.trail import record_change
from service.budgets.windows import HoldReader, WindowReader
from service.db.pools import PostgresPool
from service.errors import AlreadyExists, NotFound, StateConflict, Unavailable
from service.kit.clock import monotonic

_BUSY_SECONDS = 0.02


class StoredBudget(msgspec.Struct, frozen=True):
    """What putting a budget led to; `is_new` also when it replaced one of another match or period."""

    budget: Budget
    is_new: bool


class BudgetService:
    """Creates, changes and shows budgets of a tenant."""

    def __init__(self, pool: PostgresPool, configs: ConfigChanges, seeder: BudgetSeeder, holds: HoldReader) -> None:
        self._pool = pool
        self._configs = configs
        self._seeder = seeder
        self.windows = WindowReader(pool, holds)

    async def create(
        self, tenant_id: str, draft: BudgetDraft, *, wait_seconds: float, author: str = COMMAND_LINE
    ) -> Budget:
        """Create a budget; wait so long at most for it to be seeded. Raises AlreadyExists for a taken slug."""
        async with self._configs.change(tenant_id) as (connection, version):
            if await repository.find_budget(connection, tenant_id, draft.slug) is not None:
                raise AlreadyExists(
                    f"There is a budget {draft.slug!r}; PUT changes or replaces it.", code="slug_taken", field="slug"
                )
            budget = await _insert(connection, tenant_id, draft, version)
            await record_change(connection, author, None, budget)
        return await self._seeded(budget, wait_seconds)

    async def put(
        self, tenant_id: str, draft: BudgetDraft, *, wait_seconds: float, author: str = COMMAND_LINE
    ) -> StoredBudget:
        """Make the budget of a slug be as the draft says; the same again changes nothing.

        Another match or period archives the budget and creates another one in its place.
        """
        async with self._pool.connection() as connection:
            present = await repository.find_budget(connection, tenant_id, draft.slug)
        if present is not None and _is_as(present, draft):
            return StoredBudget(present, is_new=False)
        async with self._configs.change(tenant_id) as (connection, version):
            stored = await _put(connection, tenant_id, draft, version, author)
        budget = await self._seeded(stored.budget, wait_seconds) if stored.is_new else stored.budget
        return StoredBudget(budget, stored.is_new)

    async def change_terms(
        self, tenant_id: str, key: UUID | str, changes: dict[str, Any], *, author: str = COMMAND_LINE
    ) -> Budget:
        """Change some terms in place. Raises NotFound, StateConflict (`budget_archived`)."""
        budget = await self.get(tenant_id, key)
        if msgspec.structs.replace(budget.terms, **changes) == budget.terms and budget.state != "archived":
            return budget
        async with self._configs.change(tenant_id) as (connection, version):
            # Once more, under the lock: terms somebody changed meanwhile and this request does not name stay.
            budget = await _find_live(connection, tenant_id, budget.budget_id)
            terms: BudgetTerms = msgspec.structs.replace(budget.terms, **changes)
            changed = await _changed(connection, budget, terms, version)
            await record_change(connection, author, budget, changed)
            return changed

    async def archive(self, tenant_id: str, key: UUID | str, *, author: str = COMMAND_LINE) -> None:
        """Archive a budget; doing it again by its id changes nothing. Raises NotFound."""
        budget = await self.get(tenant_id, key)
        if budget.state == "archived":
            return
        async with self._configs.change(tenant_id) as (connection, version):
            await repository.archive(connection, budget, version)
            await record_change(connection, author, budget, None)

    async def get(self, tenant_id: str, key: UUID | str, scope: Scope | None = None) -> Budget:
        """Return the budget of an id, archived or not, or the live one of a slug. Raises NotFound."""
        async with self._pool.connection() as connection:
            budget = await repository.find_budget(connection, tenant_id, key)
        if budget is None or not repository.is_within(budget.match, scope or {}):
            raise NotFound("There is no such budget.")
        return budget

    async def list_budgets(
        self,
        tenant_id: str,
        *,
        states: Sequence[State],
        scope: Scope,
        after: tuple[str, UUID] | None,
        limit: int,
    ) -> list[Budget]:
        """Return budgets by slug, those after (slug, budget_id)."""
        async with self._pool.connection() as connection:
            return await repository.list_budgets(
                connection, tenant_id, states=states, scope=scope, after=after, limit=limit
            )

    async def _seeded(self, budget: Budget, wait_seconds: float) -> Budget:
        """Seed the budget here and now if that takes no longer; the background goes on otherwise."""
        deadline = monotonic() + wait_seconds
        # It exists, whatever becomes of its seeding now.
        with suppress(psycopg.Error, PoolTimeout, Unavailable):
            while budget.state == "seeding" and monotonic() < deadline:
                if await self._seeder.step(budget.tenant_id) == "busy":
                    await asyncio.sleep(_BUSY_SECONDS)
                budget = await self.get(budget.tenant_id, budget.budget_id)
        if budget.state == "seeding":
            self._seeder.wake()
        return budget


async def _insert(connection: AsyncConnection[Any], tenant_id: str, draft: BudgetDraft, version: int) -> Budget:
    made = await make_budgets(connection, tenant_id, [draft], version)
    await repository.insert_all(connection, made)
    return made[0]


async def _put(
    connection: AsyncConnection[Any], tenant_id: str, draft: BudgetDraft, version: int, author: str
) -> StoredBudget:
    present = await repository.find_budget(connection, tenant_id, draft.slug)
    if present is not None and present.match == draft.match and present.period == draft.period:
        changed = await _changed(connection, present, draft.terms, version)
        await record_change(connection, author, present, changed)
        return StoredBudget(changed, is_new=False)
    if present is not None:
        await repository.archive(connection, present, version)
        await record_change(connection, author, present, None)
    budget = await _insert(connection, tenant_id, draft, version)
    await record_change(connection, author, None, budget)
    return StoredBudget(budget, is_new=True)


async def _changed(connection: AsyncConnection[Any], budget: Budget, terms: BudgetTerms, version: int) -> Budget:
    now = await repository.read_clock(connection)
    changed = changed_budget(budget, terms, version=version, at=now)
    if changed.limit_usd > budget.limit_usd:
        check_highest_limit(changed, field="limit_usd")
    return await repository.store_terms(connection, changed)


async def _find_live(connection: AsyncConnection[Any], tenant_id: str, budget_id: UUID) -> Budget:
    budget = await repository.find_budget(connection, tenant_id, budget_id)
    if budget is None:
        raise NotFound("There is no such budget.")
    if budget.state == "archived":
        raise StateConflict("An archived budget does not change any more.", code="budget_archived")
    return budget


def _is_as(budget: Budget, draft: BudgetDraft) -> bool:
    return budget.match == draft.match and budget.period == draft.period and budget.terms == draft.terms
