"""Temporary increases of limits: granted, listed, ended early. Each is a change of configuration and is audited.

A budget is never lent more than counters hold exactly, nor at more places at once than checks can look at.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from psycopg import AsyncConnection

from service.budgets import increase_repository, repository
from service.budgets.budget import Budget, Increase
from service.budgets.increase_schemas import IncreaseRequest
from service.budgets.repository import Scope
from service.budgets.schemas import check_highest_limit
from service.budgets.seeding import ConfigChanges
from service.budgets.subject_reading import subject_of_values
from service.budgets.trail import record_increase
from service.db.pools import PostgresPool, connected
from service.errors import NotFound, StateConflict
from service.kit.ids import new_id

MAX_OPEN_INCREASES: Final = 100


class IncreaseService:
    """Increases of the budgets of a tenant."""

    def __init__(self, pool: PostgresPool, configs: ConfigChanges) -> None:
        self._pool = pool
        self._configs = configs

    async def grant(self, tenant_id: str, key: UUID | str, request: IncreaseRequest, *, author: str) -> Increase:
        """Raise a limit for a time. Raises NotFound, InvalidInput, StateConflict."""
        async with self._configs.change(tenant_id) as (connection, version):
            budget = await _find(connection, tenant_id, key)
            if budget.state == "archived":
                raise StateConflict("An archived budget does not change any more.", code="budget_archived")
            increase = await _checked(connection, budget, request, author)
            await increase_repository.insert_increase(connection, budget, increase, version)
            await record_increase(connection, author, budget, None, increase)
            return increase

    async def end(self, tenant_id: str, key: UUID | str, increase_id: UUID, *, author: str) -> None:
        """End an increase now; one that is over stays as it was. Raises NotFound."""
        async with connected(self._pool) as connection:
            found = await _find_increase(connection, await _find(connection, tenant_id, key), increase_id)
            if found.until <= await repository.read_clock(connection):
                return
        async with self._configs.change(tenant_id) as (connection, version):
            budget = await _find(connection, tenant_id, key)
            ended = await increase_repository.end_increase(connection, budget, increase_id, version)
            if ended is not None:
                await record_increase(connection, author, budget, found, ended)

    async def list_page(
        self,
        tenant_id: str,
        key: UUID | str,
        *,
        scope: Scope,
        with_ended: bool,
        after: tuple[datetime, UUID] | None,
        limit: int,
    ) -> Sequence[Increase]:
        """Return increases of a budget within a scope, those after (granted_at, increase_id). Raises NotFound."""
        async with connected(self._pool) as connection:
            budget = await _find(connection, tenant_id, key)
            if not repository.is_within(budget.match, scope):
                raise _not_found()
            return await increase_repository.list_increases(
                connection, budget, scope=scope, with_ended=with_ended, after=after, limit=limit
            )


async def _checked(connection: AsyncConnection[Any], budget: Budget, request: IncreaseRequest, author: str) -> Increase:
    now = await repository.read_clock(connection)
    increase = Increase(
        increase_id=new_id(),
        amount_usd=request.checked_amount(),
        subject=None if request.subject is None else subject_of_values(budget, request.subject),
        granted_at=now,
        until=request.checked_until(now),
        reason=request.checked_reason(),
        author=author,
    )
    if await increase_repository.count_open_increases(connection, budget) >= MAX_OPEN_INCREASES:
        raise StateConflict(
            f"The budget has {MAX_OPEN_INCREASES} increases that are not over; end some, or raise its limit.",
            code="too_many_increases",
        )
    check_highest_limit(budget, increase, field="amount_usd")
    return increase


async def _find(connection: AsyncConnection[Any], tenant_id: str, key: UUID | str) -> Budget:
    budget = await repository.find_budget(connection, tenant_id, key)
    if budget is None:
        raise _not_found()
    return budget


def _not_found() -> NotFound:
    return NotFound("There is no such budget.")


async def _find_increase(connection: AsyncConnection[Any], budget: Budget, increase_id: UUID) -> Increase:
    found = await increase_repository.find_increase(connection, budget, increase_id)
    if found is None:
        raise NotFound("There is no such increase of this budget.")
    return found
