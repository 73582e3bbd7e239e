"""Brings budgets created in the middle of a window up to date: adds what was recorded before they existed.

Exactly once, whatever crashes: a chunk of charges, its sums and the place it ends at are one transaction. Charges come
in the order (effective_at, charge_id); those of an older configuration are a closed set, since it changes only when
every batch matched against it is committed. The evaluator is the one that counts live charges.
"""

import asyncio
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, suppress
from decimal import Decimal
from typing import Any, Literal, Protocol
from uuid import UUID

import msgspec
import structlog
from psycopg import AsyncConnection
from psycopg_pool import PoolTimeout

from service.budgets import seeding_repository as repository
from service.budgets.budget import Budget
from service.budgets.matching import BudgetSet
from service.budgets.seeding_repository import ChunkWritten, CounterAmount, Place
from service.db.pools import PostgresPool
from service.identity.call import call_names_of_charge
from service.kit.ids import new_id
from service.kit.money import EXACT, ZERO
from service.kit.retries import Retries
from service.kit.stopping import stop
from service.ledger.charge import CountedCharge
from service.ledger.posts import CommittedPosts
from service.ledger.repository import delete_published

_log = structlog.get_logger(__name__)

_CHUNK_CHARGES = 5_000
_GROUP_BUDGETS = 1_000
_MATCHED_AT_ONCE = 200
_POLL_SECONDS = 2.0
# Longer than between two looks, so that each one after a failure begins with other tenants.
_FIRST_RETRY_SECONDS = 4.0
_MOST_RETRY_SECONDS = 300.0

# advanced: a chunk was added, or budgets became current; busy: another process is at it; idle: nothing to seed.
Step = Literal["advanced", "busy", "idle"]


class ConfigChanges(Protocol):
    """The one way to change a tenant's configuration."""

    def change(self, tenant_id: str) -> AbstractAsyncContextManager[tuple[AsyncConnection[Any], int]]:
        """Return the transaction of a change, under the tenant's exclusive lock: (connection, new config_version)."""
        ...


class PostsPublisher(Protocol):
    """Copies committed states to Redis."""

    async def publish(self, posts: Sequence[CommittedPosts]) -> set[UUID]:
        """Return the ids of the outbox rows that need no further publishing; never raise for Redis' trouble."""
        ...


class BudgetSeeder:
    """Seeds the budgets of all tenants; any number of processes may do so at the same time."""

    def __init__(
        self,
        pool: PostgresPool,
        configs: ConfigChanges,
        publisher: PostsPublisher,
        *,
        chunk_charges: int = _CHUNK_CHARGES,
        group_budgets: int = _GROUP_BUDGETS,
    ) -> None:
        self._pool = pool
        self._configs = configs
        self._publisher = publisher
        self._chunk_charges = chunk_charges
        self._group_budgets = group_budgets
        self._retries = Retries(_FIRST_RETRY_SECONDS, _MOST_RETRY_SECONDS)
        self._task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()

    def start(self) -> None:
        """Seed in the background until `close`."""
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Stop the background; a statement under way is cancelled."""
        await stop(self._task)

    def wake(self) -> None:
        """Have the background look for work now."""
        self._wake.set()

    async def step(self, tenant_id: str) -> Step:
        """Add one chunk of charges to the budgets of a tenant that are the nearest to their end."""
        async with self._pool.connection() as connection, connection.transaction():
            if not await repository.try_lock(connection, tenant_id):
                return "busy"
            group = await repository.find_group(connection, tenant_id, self._group_budgets)
            if not group:
                return "idle"
            charges = await repository.read_charges(connection, group, self._chunk_charges)
            written = await self._add(connection, group, charges) if charges else None
        if written is not None and written.posts is not None:
            await self._publish(written.posts)
        if len(charges) < self._chunk_charges:
            await self._finish(_moved(group, charges, written))
        return "advanced"

    async def _add(
        self, connection: AsyncConnection[Any], group: list[Budget], charges: list[CountedCharge]
    ) -> ChunkWritten:
        amounts = await _sum_up(group, charges)
        place = Place(charges[-1].effective_at, charges[-1].charge_id)
        return await repository.seed_chunk(connection, group, place, amounts, new_id())

    async def _publish(self, posts: CommittedPosts) -> None:
        if posts.outbox_id in await self._publisher.publish([posts]):
            await delete_published(self._pool, [(posts.tenant_id, posts.outbox_id)])

    async def _finish(self, group: list[Budget]) -> None:
        if not group:
            return
        tenant_id = group[0].tenant_id
        async with self._configs.change(tenant_id) as (connection, version):
            finished = await repository.finish(connection, group, version)
        _log.info("budgets_seeded", tenant_id=tenant_id, budgets=len(finished))

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            try:
                await self.run_once()
            except Exception as error:  # noqa: BLE001 — whatever it is, the next look must come
                _log.warning("seeding_interrupted", error=type(error).__name__)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), _POLL_SECONDS)

    async def run_once(self) -> None:
        """Seed all there is to seed, tenant by tenant in turns, but for what others are at.

        A tenant that cannot be seeded waits, for longer each time, and keeps no other from its turn. Raises PoolTimeout
        when no connection is to be had, and what the database driver raises when it cannot tell who is to be seeded.
        """
        while True:
            async with self._pool.connection() as connection:
                tenant_ids = await repository.find_tenants_to_seed(connection)
            self._retries.keep(set(tenant_ids))
            steps = [await self._turn(tenant_id) for tenant_id in tenant_ids if not self._retries.is_waiting(tenant_id)]
            if "advanced" not in steps:
                return

    async def _turn(self, tenant_id: str) -> Step:
        try:
            step = await self.step(tenant_id)
        except Exception as error:  # whatever it is, it is no other tenant's
            seconds = self._retries.failed(tenant_id)
            if isinstance(error, PoolTimeout):
                raise  # the next tenant would wait for a connection as long
            _log.exception("tenant_not_seeded", tenant_id=tenant_id, next_try_seconds=seconds)
            return "idle"
        self._retries.succeeded(tenant_id)
        return step


async def _sum_up(group: Sequence[Budget], charges: Sequence[CountedCharge]) -> list[CounterAmount]:
    """Return what the charges add to each counter of the budgets, yielding to other tasks now and then."""
    budgets = BudgetSet(0, group)
    sums: dict[tuple[UUID, str, Any], CounterAmount] = {}
    for number, charge in enumerate(charges):
        if number % _MATCHED_AT_ONCE == 0:
            await asyncio.sleep(0)
        for counter in budgets.match(call_names_of_charge(charge), charge.effective_at):
            if charge.config_version >= counter.budget.config_version:
                continue
            key = (counter.budget.budget_id, counter.subject, counter.window.start)
            known = sums.get(key)
            sums[key] = CounterAmount(
                budget_id=counter.budget.budget_id,
                subject=counter.subject,
                bucket=counter.window.start,
                breadth=counter.budget.breadth,
                amount=_plus(known.amount if known is not None else ZERO, charge.enforced_usd),
            )
    return list(sums.values())


def _plus(left: Decimal, right: Decimal) -> Decimal:
    return EXACT.add(left, right)


def _moved(group: list[Budget], charges: list[CountedCharge], written: ChunkWritten | None) -> list[Budget]:
    """Return the budgets of the group as they are after the chunk, without those it left behind."""
    if written is None:
        return group
    last = charges[-1]
    return [
        msgspec.structs.replace(budget, seeded_through=last.effective_at, seeded_charge_id=last.charge_id)
        for budget in group
        if budget.budget_id in written.advanced
    ]
