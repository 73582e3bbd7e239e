"""A tenant with the real configuration store, group commit and seeding on a real database; Redis is a notepad."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from service.budgets.seeding import BudgetSeeder
from service.budgets.seeding_repository import find_tenants_to_seed
from service.budgets.service import BudgetService
from service.budgets.windows import CounterKey
from service.config.service import ConfigStore
from service.config.window_matcher import ConfigWindowMatcher
from service.db.pools import Pools
from service.ledger.posts import CommittedPosts
from service.ledger.service import LedgerRecorder
from tests import oracle
from tests.window_oracle import assert_windows_equal_charges


class NotingFence:
    """Stands where Redis is: notes how far each tenant's fence was raised."""

    def __init__(self) -> None:
        self.versions: dict[str, int] = {}

    async def raise_to(self, tenant_id: str, version: int) -> None:
        self.versions[tenant_id] = version


class NotingPublisher:
    """Stands where Redis is: notes what it was given, and calls it published while `is_up`."""

    def __init__(self) -> None:
        self.posts: list[CommittedPosts] = []
        self.is_up = True

    async def publish(self, posts: Sequence[CommittedPosts]) -> set[UUID]:
        await asyncio.sleep(0)
        if not self.is_up:
            return set()
        self.posts.extend(posts)
        return {post.outbox_id for post in posts}


class FixedHolds:
    """Stands where Redis is: holds as a test sets them; None = cannot be read."""

    def __init__(self) -> None:
        self.held: dict[CounterKey, Decimal] | None = {}

    async def read_held(self, _tenant_id: str, counters: Sequence[CounterKey]) -> list[Decimal] | None:
        return None if self.held is None else [self.held.get(counter, Decimal(0)) for counter in counters]


class Replica:
    """What one server process has: its own view of the configuration, its own batches."""

    def __init__(self, pools: Pools, publisher: NotingPublisher, **seeding: int) -> None:
        self.pools = pools
        self.configs = ConfigStore(pools.postgres, NotingFence())
        self.seeder = BudgetSeeder(pools.postgres, self.configs, publisher, **seeding)
        self.holds = FixedHolds()
        self.service = BudgetService(pools.postgres, self.configs, self.seeder, self.holds)
        self.recorder = LedgerRecorder(
            pools.postgres, ConfigWindowMatcher(self.configs), publisher, max_batch_charges=100, batch_wait_ms=1
        )

    async def seed_all(self) -> None:
        """Seed until nothing is left to seed; what a server of the same database is at, it finishes itself."""
        async with asyncio.timeout(30):
            while True:
                await self.seeder.run_once()
                async with self.pools.postgres.connection() as connection:
                    if not await find_tenants_to_seed(connection):
                        return
                await asyncio.sleep(0.01)

    async def close(self) -> None:
        await self.seeder.close()
        await self.recorder.close()


@pytest.fixture
def publisher() -> NotingPublisher:
    return NotingPublisher()


@pytest.fixture
async def budget_tenant(pools: Pools, tenant_id: str) -> AsyncIterator[str]:
    """A tenant with a row; the oracles look at its ledger and its windows afterwards."""
    async with pools.postgres.connection() as connection:
        await connection.execute("INSERT INTO tenant (tenant_id, name) VALUES (%s, 'test')", (tenant_id,))
    yield tenant_id
    await oracle.assert_totals_equal_charges(pools.postgres, tenant_id)
    await assert_windows_equal_charges(pools.postgres, tenant_id)


@pytest.fixture
async def replica(pools: Pools, publisher: NotingPublisher, budget_tenant: str) -> AsyncIterator[Replica]:
    replica = Replica(pools, publisher, chunk_charges=7)
    yield replica
    await replica.close()


@pytest.fixture
async def other_replica(pools: Pools, publisher: NotingPublisher, budget_tenant: str) -> AsyncIterator[Replica]:
    replica = Replica(pools, publisher, chunk_charges=5)
    yield replica
    await replica.close()


async def rows(pools: Pools, statement: str, *parameters: Any) -> list[Any]:
    async with pools.postgres.connection() as connection:
        return await (await connection.execute(statement, parameters)).fetchall()  # type: ignore[arg-type]


async def posted(pools: Pools, budget_id: UUID) -> dict[str, Decimal]:
    """Return what a budget's counters sum up to, by subject, over all windows."""
    return dict(
        await rows(
            pools,
            "SELECT subject, sum(enforced) FROM budget_window WHERE budget_id = %s GROUP BY subject ORDER BY subject",
            budget_id,
        )
    )
