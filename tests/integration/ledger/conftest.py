"""A recorder on a real database, with the simplest configuration there is: two budgets, everything and each user."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from uuid import UUID

import msgspec
import pytest

from service.db.pools import Pools, PostgresConnection
from service.kit.ids import new_id
from service.ledger.charge import ChargeDraft, MatchedBatch, WindowPost
from service.ledger.posts import CommittedPosts
from service.ledger.service import LedgerRecorder
from tests import oracle

WINDOW = datetime(2026, 11, 1, tzinfo=UTC)
_EPOCH = "SELECT epoch FROM ledger_epoch"
_VERSION = "SELECT config_version FROM tenant WHERE tenant_id = %s"


class TwoBudgets:
    """Matches every charge into a shared counter and one of its user, by the version the database has."""

    def __init__(self, pools: Pools) -> None:
        self._pools = pools
        self.everything, self.each_user = new_id(), new_id()
        self.versions: dict[str, int] = {}
        self.reloads = 0

    async def match(
        self, drafts: Sequence[ChargeDraft], *, connection: PostgresConnection | None = None
    ) -> MatchedBatch:
        if connection is not None:
            self.reloads += 1
            self.versions.clear()
        counters: dict[tuple[UUID, str], WindowPost] = {}
        charges = []
        for draft in drafts:
            if draft.tenant_id not in self.versions:
                self.versions[draft.tenant_id] = await self._read(_VERSION, draft.tenant_id)
            numbers = tuple(
                counters.setdefault(
                    (budget_id, subject),
                    WindowPost(
                        number=len(counters), budget_id=budget_id, subject=subject, bucket=WINDOW, breadth=breadth
                    ),
                ).number
                for budget_id, subject, breadth in (
                    (self.everything, "{}", 9),
                    (self.each_user, f'{{"user":"{draft.user}"}}', 1),
                )
            )
            version = self.versions[draft.tenant_id]
            charges.append(msgspec.structs.replace(draft, window_numbers=numbers, config_version=version))
        return MatchedBatch(charges=charges, counters=list(counters.values()), epoch=await self._read(_EPOCH))

    async def _read(self, statement: str, *parameters: str) -> int:
        async with self._pools.postgres.connection() as connection:
            row = await (await connection.execute(statement, parameters)).fetchone()
        assert row is not None
        return int(row[0])


class NotingPublisher:
    """Stands where Redis is: notes what it was given and calls it published."""

    def __init__(self) -> None:
        self.posts: list[CommittedPosts] = []

    async def publish(self, posts: Sequence[CommittedPosts]) -> set[UUID]:
        await asyncio.sleep(0)
        self.posts.extend(posts)
        return {post.outbox_id for post in posts}


@pytest.fixture
def two_budgets(pools: Pools) -> TwoBudgets:
    return TwoBudgets(pools)


@pytest.fixture
def publisher() -> NotingPublisher:
    return NotingPublisher()


@pytest.fixture
async def ledger_tenant(pools: Pools, tenant_id: str) -> AsyncIterator[str]:
    """A tenant with a row; the oracle looks at its ledger afterwards."""
    async with pools.postgres.connection() as connection:
        await connection.execute("INSERT INTO tenant (tenant_id, name) VALUES (%s, 'test')", (tenant_id,))
    yield tenant_id
    await oracle.assert_totals_equal_charges(pools.postgres, tenant_id)
    await oracle.assert_outbox_is_empty(pools.postgres, tenant_id)


@pytest.fixture
async def restored_epoch(pools: Pools) -> AsyncIterator[None]:
    """For tests that raise the epoch: afterwards it is what other tests of this database have seen."""
    async with pools.postgres.connection() as connection:
        found = await (await connection.execute("SELECT epoch, timeline_id FROM ledger_epoch")).fetchone()
        yield
        await connection.execute("UPDATE ledger_epoch SET epoch = %s, timeline_id = %s", found)


@pytest.fixture
async def recorder(
    pools: Pools, two_budgets: TwoBudgets, publisher: NotingPublisher, ledger_tenant: str
) -> AsyncIterator[LedgerRecorder]:
    recorder = a_recorder(pools, two_budgets, publisher)
    yield recorder
    await recorder.close()


def a_recorder(pools: Pools, two_budgets: TwoBudgets, publisher: NotingPublisher) -> LedgerRecorder:
    return LedgerRecorder(pools.postgres, two_budgets, publisher, max_batch_charges=200, batch_wait_ms=2)
